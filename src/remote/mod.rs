//! Build here, run there: folders kept equal on another machine, and programs run in them. Shell.
//!
//! | file | what it does |
//! |---|---|
//! | [`consent`] | who may do any of it |

pub mod consent;

pub use consent::Consent;
