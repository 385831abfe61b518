//! Contents that a put brought lately: its commit is about to count their copies.
//!
//! Invariant: a copy is not dropped while its content is in here, and whatever was noted is, until its
//! time is over. With more than there is room for, nothing at all is dropped for that time.

use crate::clock::Moment;
use crate::types::{ContentId, ContentMap};

/// Contents noted one by one, some 45 bytes each: what most puts bring within the time.
const FRESH_MAX: usize = 32_768;

/// See above.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    until: ContentMap<Moment>,
    all_until: Option<Moment>,
}

impl Fresh {
    pub(super) fn insert(&mut self, content: ContentId, until: Moment) {
        if self.until.len() < FRESH_MAX || self.until.contains(&content) {
            self.until.insert(content, until);
        } else {
            self.all_until = self.all_until.max(Some(until));
        }
    }

    /// Until when `content` counts as new, if it was noted by itself.
    pub(super) fn until(&self, content: &ContentId) -> Option<Moment> {
        self.until.get(content).copied()
    }

    /// Until when no copy of `content` may be dropped.
    pub(super) fn kept_until(&self, content: &ContentId) -> Option<Moment> {
        self.until(content).max(self.all_until)
    }

    pub(super) fn tick(&mut self, now: Moment) {
        self.until.retain(|_, until| now < *until);
        self.all_until = self.all_until.filter(|until| now < *until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_keeps_everything() {
        let mut fresh = Fresh::default();
        let content = |number: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            ContentId(id)
        };
        for number in 0..FRESH_MAX {
            fresh.insert(content(number), Moment(100));
        }
        assert_eq!(fresh.kept_until(&content(FRESH_MAX)), None);
        fresh.insert(content(FRESH_MAX), Moment(200));
        assert_eq!(fresh.until.len(), FRESH_MAX);
        assert_eq!(fresh.kept_until(&content(FRESH_MAX)), Some(Moment(200)));
        assert_eq!(fresh.kept_until(&content(0)), Some(Moment(200)));
        assert_eq!(fresh.until(&content(FRESH_MAX)), None);
        fresh.tick(Moment(100));
        assert!(fresh.until.is_empty() && fresh.all_until.is_some());
        fresh.tick(Moment(200));
        assert_eq!(fresh.kept_until(&content(0)), None);
    }
}
