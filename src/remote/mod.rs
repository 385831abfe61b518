//! Build here, run there: folders kept equal on another machine, and programs run in them. Shell.
//!
//! | file | what it does |
//! |---|---|
//! | [`consent`] | who may do any of it |
//! | [`job`] | programs that run for others |
//! | [`supervisor`] | the process that watches over one program |

mod account;
pub mod consent;
pub mod job;
pub mod supervisor;
pub mod workspace;

pub use consent::Consent;
