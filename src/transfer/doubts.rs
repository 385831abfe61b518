//! Readers that found wrong bytes, and what a holder does about it: it looks itself.
//!
//! Invariant: a doubt is only a reason to look. What a copy is, the holder's own hash alone decides,
//! so a reader that lies costs some reading of the disk, and that is bounded: one look at a time, one
//! that waits a content, so many an address and minute, and none soon after one that found it whole.

use super::holder::HolderContext;
use crate::clock::{self, Moment};
use crate::limits::{DOUBT_AGAIN_MS, DOUBTS_MAX, DOUBTS_PER_ADDRESS_MAX, DOUBTS_WINDOW_MS};
use crate::types::ContentId;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// The doubts of readers.
pub struct Doubts {
    book: Mutex<Book>,
    one_at_a_time: Semaphore,
}

impl Default for Doubts {
    fn default() -> Doubts {
        Doubts { book: Mutex::default(), one_at_a_time: Semaphore::new(1) }
    }
}

/// What was doubted lately. Pure: the time is an argument.
#[derive(Debug, Default)]
struct Book {
    /// Waiting or being looked at: `None`; found whole, when.
    looks: BTreeMap<ContentId, Option<Moment>>,
    since: Moment,
    of_address: BTreeMap<IpAddr, u32>,
}

impl Book {
    /// Whether this doubt is a reason to look.
    fn admit(&mut self, from: IpAddr, content: ContentId, now: Moment) -> bool {
        if now.since(self.since) >= DOUBTS_WINDOW_MS {
            self.since = now;
            self.of_address.clear();
        }
        let late = |at: &Option<Moment>| at.is_some_and(|at| now.since(at) >= DOUBT_AGAIN_MS);
        self.looks.retain(|_, at| !late(at));
        let count = self.of_address.entry(from).or_default();
        *count = count.saturating_add(1);
        if *count > DOUBTS_PER_ADDRESS_MAX || self.looks.contains_key(&content) {
            return false;
        }
        let waiting = self.looks.values().filter(|at| at.is_none()).count();
        if waiting >= DOUBTS_MAX {
            return false;
        }
        self.looks.insert(content, None);
        true
    }

    /// The look is over.
    fn looked(&mut self, content: &ContentId, whole: bool, now: Moment) {
        if whole {
            self.looks.insert(*content, Some(now));
        } else {
            self.looks.remove(content);
        }
    }
}

impl Doubts {
    /// A reader at `from` says that what it was given of `content` is wrong. Does not wait.
    pub(super) fn raise(context: &Arc<HolderContext>, from: IpAddr, content: ContentId) {
        let doubts = &context.doubts;
        let mut book = doubts.book.lock().unwrap_or_else(PoisonError::into_inner);
        if context.store.holds(&content).is_none() || !book.admit(from, content, clock::now()) {
            tracing::debug!(%from, %content, "a doubt was not followed");
            return;
        }
        drop(book);
        let context = Arc::clone(context);
        tokio::spawn(async move {
            let doubts = &context.doubts;
            let Ok(_turn) = doubts.one_at_a_time.acquire().await else { return };
            let store = context.store.clone();
            let looked = tokio::task::spawn_blocking(move || store.verify(&content)).await;
            let whole = matches!(looked, Ok(Ok(true)));
            match looked {
                Ok(Ok(true)) => {
                    tracing::info!(%from, %content, "a reader doubted this copy; it is whole");
                }
                Ok(Ok(false)) => (context.on_bad)(content),
                Ok(Err(error)) => tracing::warn!(%content, %error, "a doubted copy could not be looked at"),
                Err(_) => {}
            }
            let mut book = doubts.book.lock().unwrap_or_else(PoisonError::into_inner);
            book.looked(&content, whole, clock::now());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(number: u8) -> ContentId {
        ContentId([number; 32])
    }

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn one_look_a_content_and_none_soon_after_a_good_one() {
        let mut book = Book::default();
        assert!(book.admit(A, content(1), Moment(1)));
        assert!(!book.admit(B, content(1), Moment(2)), "it is being looked at");
        book.looked(&content(1), true, Moment(3));
        assert!(!book.admit(B, content(1), Moment(4)), "it was whole just now");
        assert!(book.admit(B, content(1), Moment(3 + DOUBT_AGAIN_MS)));
        book.looked(&content(1), false, Moment(3 + DOUBT_AGAIN_MS));
        assert!(book.admit(B, content(1), Moment(4 + DOUBT_AGAIN_MS)), "another copy of it, perhaps");
    }

    #[test]
    fn an_address_causes_so_many_looks_and_others_are_still_heard() {
        let mut book = Book::default();
        for number in 0..DOUBTS_PER_ADDRESS_MAX {
            assert!(book.admit(A, content(number as u8), Moment(1)));
            book.looked(&content(number as u8), false, Moment(1));
        }
        assert!(!book.admit(A, content(200), Moment(2)));
        assert!(book.admit(B, content(200), Moment(2)));
        assert!(book.admit(A, content(201), Moment(DOUBTS_WINDOW_MS)), "in the next minute, it is again");
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let mut book = Book::default();
        let admitted = (0..200_u8)
            .filter(|number| book.admit(IpAddr::from([10, 0, 1, *number]), content(*number), Moment(1)));
        assert_eq!(admitted.count(), DOUBTS_MAX);
    }
}
