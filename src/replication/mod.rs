//! What is stored, where copies go, and what to mend. Pure: no clock, socket, file or thread.
//!
//! | file | what it is |
//! |---|---|
//! | [`context`] | the set of dots seen, in normal form |
//! | [`catalog`] | names and their versions: a CRDT in which removals need no tombstones |
//! | `digest` | the frozen hash by which catalogs are compared |
//! | [`shown`] | what a name stands for when it has several versions: conflict names |
//! | [`removed`] | what goes to the trash, comes back from it, and is emptied |
//! | `holder_sets` | which nodes hold a content, each such set kept once |
//! | [`inventory`] | where copies are, as their holders reported |
//! | [`placement`] | which machines get the copies of a new content |
//! | [`planner`] | what one content needs: a pull, a drop, patience, or nothing |
//! | [`balance`] | which copy should move to an emptier machine |
//!
//! Invariant: equal inputs give equal results on every node, of whatever version and whatever the
//! order of arrival, so that any node can take over and decide as the last one did.

pub mod balance;
pub mod catalog;
pub mod context;
mod digest;
mod holder_sets;
pub mod inventory;
pub mod placement;
pub mod planner;
pub mod removed;
pub mod shown;

pub use catalog::{Catalog, ContentRefs, LoadError, Merged, SyncError, SyncIn, SyncSlice};
pub use context::{CausalContext, ContextError};
pub use placement::{Candidate, choose};
pub use planner::{Decision, Holder, HolderState, PlanInput, plan, state};
