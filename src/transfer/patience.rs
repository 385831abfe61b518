//! When a peer counts as stalled. Pure: the time is an argument.
//!
//! A peer stalls if something is due from it and it has sent nothing at all for
//! [`STALL_TIMEOUT`]. A holder that is merely slow says `Working` and does not stall.

use crate::clock::Moment;
use crate::limits::STALL_TIMEOUT;

/// Counts what is due from one peer, and since when it is silent.
#[derive(Debug, Default)]
pub(super) struct Patience {
    due: usize,
    since: Moment,
}

impl Patience {
    /// One more answer is due.
    pub(super) fn begin(&mut self, now: Moment) {
        if self.due == 0 {
            self.since = now;
        }
        self.due += 1;
    }

    /// One answer came, or is no longer due.
    pub(super) fn end(&mut self) {
        self.due = self.due.saturating_sub(1);
    }

    /// Anything came from the peer.
    pub(super) fn heard(&mut self, now: Moment) {
        self.since = now;
    }

    /// Whether the peer is to be given up.
    pub(super) fn is_over(&self, now: Moment) -> bool {
        self.due > 0 && u128::from(now.since(self.since)) > STALL_TIMEOUT.as_millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_only_while_something_is_due() {
        let limit = u64::try_from(STALL_TIMEOUT.as_millis()).expect("short");
        let mut patience = Patience::default();
        assert!(!patience.is_over(Moment(10 * limit)));
        patience.begin(Moment(10 * limit));
        assert!(!patience.is_over(Moment(11 * limit)));
        assert!(patience.is_over(Moment(11 * limit + 1)));
        patience.heard(Moment(11 * limit + 1));
        assert!(!patience.is_over(Moment(11 * limit + 2)));
        patience.end();
        assert!(!patience.is_over(Moment(99 * limit)));
    }
}
