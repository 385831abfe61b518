//! Coverage: what must happen at least once in a run of many seeds.
//!
//! A simulator that never reaches a rare state proves nothing about it. Each mark is something that
//! the faults are meant to bring about; a run that misses one fails.

macro_rules! marks {
    ($($(#[doc = $text:literal])+ $name:ident),+ $(,)?) => {
        /// Something that is to happen in some seed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mark { $($(#[doc = $text])+ $name),+ }
        /// All of them.
        pub const MARKS: &[Mark] = &[$(Mark::$name),+];
    };
}

marks! {
    /// Two nodes led at once.
    TwoProxies,
    /// The proxy changed while a put was being committed.
    TakeoverDuringPut,
    /// A name came to have two versions.
    ConflictMade,
    /// A write was lost with a crash.
    WritesLost,
    /// A crash left a write on disk of which nobody had been told.
    UntoldWriteKept,
    /// A disk refused, and its node stepped back.
    SaveFailed,
    /// A pull's first source had nothing, or wrong bytes.
    SecondSource,
    /// A damaged copy was found.
    DamageFound,
    /// A lost copy was replaced.
    Healed,
    /// A surplus copy was dropped under promises.
    CopyDropped,
    /// A drop came to the disk after the promises had run out.
    DropTooLate,
    /// A drop met a put that uses the content.
    DropOfPinned,
    /// A node that was to drop refused, or could not get its promises.
    DropRefused,
    /// A promise was asked for and not given.
    PromiseRefused,
    /// A content that no entry names was thrown away.
    GarbageGone,
    /// An order of a lower term came.
    OldTerm,
    /// A message of an earlier run came.
    OldRun,
    /// A page of a catalog came, of two that differed.
    CatalogCompared,
    /// A commit waited for a holder's own word.
    CommitWaited,
    /// A command was told that the outcome is not known.
    AnsweredUnknown,
    /// A command was told that the proxy is not ready.
    AnsweredNotReady,
    /// A command was sent on to the proxy.
    SentOn,
    /// A put got a further copy by a pull.
    Extended,
    /// A put asked for its entries again, because a holder had not confirmed.
    CommittedAgain,
    /// A file was removed and the removal acknowledged.
    Removed,
    /// Something went to the trash.
    ToTrash,
    /// A number of copies was changed and that acknowledged.
    ReplicasSet,
    /// A node joined another cluster.
    ClusterJoined,
    /// A goodbye was heard.
    GoodbyeHeard,
    /// A node started with an empty folder.
    Wiped,
    /// A node started with an older folder.
    RolledBack,
    /// A machine was lost for good.
    Died,
    /// No machine had room.
    NoSpace,
    /// A holder had no room for a put's bytes.
    HolderFull,
    /// A read was answered.
    Got,
    /// A read found a holder's bytes wrong and took another's.
    GotFromAnother,
    /// Two nodes of one machine held a copy each, for a while.
    TwoOnOneMachine,
    /// A letter was acknowledged.
    LetterSent,
    /// That while no second machine was heard.
    LetterOnOneDisk,
}

/// Which marks were reached, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks(Vec<u64>);

impl Default for Marks {
    fn default() -> Marks {
        Marks(vec![0; MARKS.len()])
    }
}

impl Marks {
    pub fn fire(&mut self, mark: Mark) {
        self.0[mark as usize] += 1;
    }

    pub fn count(&self, mark: Mark) -> u64 {
        self.0[mark as usize]
    }

    /// Counts seeds: one for each mark that the seed reached.
    pub fn add_seed(&mut self, seed: &Marks) {
        for (sum, one) in self.0.iter_mut().zip(&seed.0) {
            *sum += u64::from(*one > 0);
        }
    }
}
