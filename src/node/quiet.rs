//! Lines of the log that others can cause: so many in a while, then a count. Shell.

use crate::clock::{self, Moment};
use crate::limits::{LOG_LINES_MAX, LOG_WINDOW_MS};
use std::sync::{Mutex, PoisonError};

/// Bounds one kind of line.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    since: Moment,
    said: u32,
    unsaid: u32,
}

impl Quiet {
    /// Says it, unless that was done too often lately; then it is counted.
    pub(crate) fn warn(&self, say: impl FnOnce()) {
        let (may, unsaid) = self.count(clock::now());
        if unsaid > 0 {
            tracing::warn!(lines = unsaid, "more of the like were left out");
        }
        if may {
            say();
        }
    }

    /// Whether a line may be said at `now`, and how many were not before it.
    fn count(&self, now: Moment) -> (bool, u32) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unsaid = 0;
        if now.since(state.since) >= LOG_WINDOW_MS {
            unsaid = std::mem::take(&mut state.unsaid);
            (state.since, state.said) = (now, 0);
        }
        state.said = state.said.saturating_add(1);
        let may = state.said <= LOG_LINES_MAX;
        if !may {
            state.unsaid = state.unsaid.saturating_add(1);
        }
        (may, unsaid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_counted_and_said_later() {
        let quiet = Quiet::default();
        let start = Moment::default().plus(LOG_WINDOW_MS);
        for _ in 0..LOG_LINES_MAX {
            assert_eq!(quiet.count(start), (true, 0));
        }
        assert_eq!(quiet.count(start.plus(1)), (false, 0));
        assert_eq!(quiet.count(start.plus(2)), (false, 0));
        assert_eq!(quiet.count(start.plus(LOG_WINDOW_MS)), (true, 2));
    }
}
