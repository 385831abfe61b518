//! The roles: exactly one proxy leads, storage nodes keep contents, clients only ask.
//!
//! [`election`] (pure) says who leads; [`machine`] (shell) says on which machine a node runs.

pub mod election;
pub mod machine;
