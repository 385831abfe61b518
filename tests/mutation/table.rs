//! The bugs. Each names what it breaks; files are below `src`, and each text stands there exactly once.

/// A planted bug.
pub struct Mutant {
    pub name: &'static str,
    pub what: &'static str,
    /// File, what stands there, what shall stand there.
    pub edits: &'static [(&'static str, &'static str, &'static str)],
}

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "AckBeforeProxySync",
        what: "the proxy counts itself before its own entry is durable",
        edits: &[(
            "engine/requests.rs",
            "self.after_save(save, AfterSave::Committed { commit: id });",
            "{ let _ = (save, AfterSave::Committed { commit: id }); self.committed_here(id); }",
        )],
    },
    Mutant {
        name: "AckBeforeHolderSync",
        what: "a holder says that an entry is durable before it is",
        edits: &[(
            "engine/exchange.rs",
            "self.after_save(save, AfterSave::TellStored { to: from, ack, contents });",
            "{ let _ = save; self.do_after_save(AfterSave::TellStored { to: from, ack, contents }); }",
        )],
    },
    Mutant {
        name: "AckClaimed",
        what: "the holders that the client names are counted, not those that confirmed",
        edits: &[(
            "engine/requests.rs",
            "stored.get(node).is_some_and(|held| held.contains(&content));",
            "stored.get(node).is_none_or(|_| true);",
        )],
    },
    Mutant {
        name: "OnePhase",
        what: "an entry replaces the old one before any holder has told of its content",
        edits: &[(
            "engine/requests.rs",
            "if !files.iter().all(|file| self.is_reported(file)) {",
            "if false {",
        )],
    },
    Mutant {
        name: "SaveFailureIgnored",
        what: "a failed save of the catalog counts as durable",
        edits: &[(
            "engine/exchange.rs",
            "        if !durable {\n            self.break_down();\n            return;\n        }\n        for then in waiting {",
            "        let _ = durable;\n        for then in waiting {",
        )],
    },
    Mutant {
        name: "RemoveAtOne",
        what: "a removal is answered once the proxy has it",
        edits: &[
            ("engine/requests.rs", "let majority = keepers.len() / 2 + 1;", "let majority = 1;"),
            (
                "engine/requests.rs",
                "let done = commit.saved_here && (commit.waiting.is_empty() || late);",
                "let done = commit.saved_here && (commit.waiting.is_empty() || late || commit.quorum == 1 && matches!(commit.kind, CommitKind::Remove { .. }));",
            ),
        ],
    },
    Mutant {
        name: "DotTwice",
        what: "two versions of one change get the same dot",
        edits: &[(
            "engine/exchange.rs",
            "self.minted = self.minted.max(seen.prefix(instance)) + 1;",
            "self.minted = self.minted.max(seen.prefix(instance) + 1);",
        )],
    },
    Mutant {
        name: "ZombieRm",
        what: "a removal is carried out and not remembered",
        edits: &[(
            "replication/catalog/changes.rs",
            "self.see(seen.iter().copied(), &mut step);",
            "self.see(carried.iter().copied(), &mut step);",
        )],
    },
    Mutant {
        name: "LastWriterWins",
        what: "of concurrent versions only the greatest is kept",
        edits: &[(
            "replication/catalog/register.rs",
            "    for other in theirs {\n        merge.take(other, i_saw);\n    }\n    merge\n",
            "    for other in theirs {\n        merge.take(other, i_saw);\n    }\n    let live = merge.versions.iter().filter(|v| v.is_live()).count();\n    if live > 1 {\n        let mut left = live - 1;\n        merge.versions.retain(|v| !v.is_live() || { let keep = left == 0; left = left.saturating_sub(1); keep });\n    }\n    merge\n",
        )],
    },
    Mutant {
        name: "AbsentIsRemoved",
        what: "what the other side does not mention is removed, whether it has seen it or not",
        edits: &[(
            "replication/catalog/register.rs",
            "} else if they_saw(version.dot) {",
            "} else if true || they_saw(version.dot) {",
        )],
    },
    Mutant {
        name: "ContextFirst",
        what: "the sender's context joins with the first page of an exchange",
        edits: &[(
            "replication/catalog/sync.rs",
            "        if last {\n            self.join(&sync.context, &mut step);",
            "        if last || sync.after.is_none() {\n            self.join(&sync.context, &mut step);",
        )],
    },
    Mutant {
        name: "LeastWins",
        what: "of concurrent settings of a count the least wins",
        edits: &[("types/version.rs", ".map(|(_, count)| *count).max()", ".map(|(_, count)| *count).min()")],
    },
    Mutant {
        name: "NeverCompared",
        what: "catalogs that differ are not compared",
        edits: &[("engine/exchange.rs", "                self.ask_sync(peer);\n", "")],
    },
    Mutant {
        name: "DropOnFewerPromises",
        what: "a copy is dropped with one promise less than wanted",
        edits: &[(
            "engine/keeper.rs",
            "if drop.promises.len() >= drop.wanted &&",
            "if drop.promises.len() + 1 >= drop.wanted &&",
        )],
    },
    Mutant {
        name: "PromiseUnchecked",
        what: "a promise is given for a copy that was found bad, or is not there",
        edits: &[
            (
                "engine/keeper.rs",
                "if good && self.may_keep(&content) {",
                "if true || good && self.may_keep(&content) {",
            ),
            (
                "engine/keeper.rs",
                "let kept = self.may_keep(&content);",
                "let kept = true || self.may_keep(&content);",
            ),
        ],
    },
    Mutant {
        name: "PromiseWhileDropping",
        what: "a node that drops its copy promises to keep it",
        edits: &[(
            "engine/keeper.rs",
            "self.stays_here(content) && self.catalog.content(content).is_some()",
            "self.held.contains(content) && self.catalog.content(content).is_some()",
        )],
    },
    Mutant {
        name: "PromiseUnsaved",
        what: "a promise is given on an entry that is in memory only",
        edits: &[(
            "engine/keeper.rs",
            "self.after_save(save, AfterSave::Keep { asker, content, nonce });",
            "{ let _ = (save, AfterSave::Keep { asker, content, nonce }); self.promise(asker, content, nonce); }",
        )],
    },
    Mutant {
        name: "GarbageCounted",
        what: "a copy that is being thrown away is counted",
        edits: &[(
            "engine/keeper.rs",
            "self.keeper.drops.contains_key(content) || self.keeper.garbage.contains(content)",
            "self.keeper.drops.contains_key(content)",
        )],
    },
    Mutant {
        name: "ToldAndDropped",
        what: "a copy that a commit was told of may go before the answer",
        edits: &[(
            "engine/keeper.rs",
            "let until = self.now.plus(FRESH_MS);",
            "let until = self.now; let _ = FRESH_MS;",
        )],
    },
    Mutant {
        name: "DropPromised",
        what: "a copy that was promised to be kept is dropped all the same",
        edits: &[("engine/keeper.rs", "if !possible || self.is_promised(&content) {", "if !possible {")],
    },
    Mutant {
        name: "OldOrdersObeyed",
        what: "orders count whatever their term",
        edits: &[("engine/keeper.rs", "term == self.me.term && term.proxy == from", "term.proxy == from")],
    },
    Mutant {
        name: "EagerOrphanGc",
        what: "contents without an entry are thrown away while their put is under way",
        edits: &[(
            "engine/keeper.rs",
            "if orphan.removed { REMOVED_GRACE_MS } else { ORPHAN_GRACE_MS }",
            "{ let _ = (orphan.removed, ORPHAN_GRACE_MS); REMOVED_GRACE_MS }",
        )],
    },
    Mutant {
        name: "GarbageUnsaved",
        what: "contents go before the removal that frees them is durable",
        edits: &[
            (
                "engine/keeper.rs",
                "now.since(self.keeper.orphans_at) >= ORPHANS_INTERVAL_MS && self.exchange.is_saved()",
                "now.since(self.keeper.orphans_at) >= 1",
            ),
            ("engine/keeper.rs", "const REMOVED_GRACE_MS: u64 = 2_000;", "const REMOVED_GRACE_MS: u64 = 0;"),
        ],
    },
    Mutant {
        name: "DropUnheard",
        what: "a proxy orders drops before everybody has reported",
        edits: &[(
            "engine/planning.rs",
            "let may_drop = reported && self.all_synced();",
            "let may_drop = true || (reported && self.all_synced());",
        )],
    },
    Mutant {
        name: "DeadCounted",
        what: "copies on dead machines count",
        edits: &[(
            "engine/planning.rs",
            "Freshness::Gone => HolderState::Gone,",
            "Freshness::Gone => HolderState::Up,",
        )],
    },
    Mutant {
        name: "SameMachineTwice",
        what: "a machine that has a copy gets a second one",
        edits: &[("replication/planner.rs", "            copies.taken.insert(machine.clone());\n", "")],
    },
    Mutant {
        name: "RestartUnnoticed",
        what: "what a node reported before its restart still counts",
        edits: &[("engine/announce.rs", "                self.void_reports(node);\n", "")],
    },
    Mutant {
        name: "NeverAskedAgain",
        what: "an inventory that was missed is not asked for",
        edits: &[(
            "engine/office.rs",
            "        for node in asks {",
            "        for node in asks.into_iter().take(0) {",
        )],
    },
    Mutant {
        name: "NeverStepsDown",
        what: "a proxy that meets a higher term goes on leading",
        edits: &[(
            "engine/announce.rs",
            "            self.leave_office();\n            self.follow(term);",
            "            self.follow(term);",
        )],
    },
    Mutant {
        name: "NamesTooEarly",
        what: "a new proxy says \"not found\" before it has heard from everybody",
        edits: &[(
            "engine/office.rs",
            "            let synced = node.node == me || office.synced.contains(&node.node);",
            "            let synced = node.node == me || true;",
        )],
    },
    Mutant {
        name: "LostMemberIgnored",
        what: "nothing is looked at when a machine comes or goes",
        edits: &[(
            "engine/office.rs",
            "            office.look_at_all();\n        }\n        self.requests_lose(node);",
            "        }\n        self.requests_lose(node);",
        )],
    },
    Mutant {
        name: "FailedPullForgotten",
        what: "a pull that failed is not tried again",
        edits: &[(
            "engine/office.rs",
            "                    office.agenda.look_at_later(now.plus(RETRY_MS), content);\n",
            "",
        )],
    },
    Mutant {
        name: "RemovedRevived",
        what: "a version that was removed comes back with a page of an exchange",
        edits: &[(
            "replication/catalog/register.rs",
            "        if !i_saw(other.dot) {\n            self.versions.push(other.clone());",
            "        if true || !i_saw(other.dot) {\n            self.versions.push(other.clone());",
        )],
    },
    Mutant {
        name: "LetterAloneIsSafe",
        what: "a message counts as safe on one disk although a second machine is up",
        edits: &[(
            "engine/post/mod.rs",
            "let safe = post.saved && (post.held || post.waiting.is_empty());",
            "let safe = post.saved;",
        )],
    },
    Mutant {
        name: "LetterUnsavedIsSafe",
        what: "a message counts as safe before this node's own disk has it",
        edits: &[(
            "engine/post/mod.rs",
            "let safe = post.saved && (post.held || post.waiting.is_empty());",
            "let safe = post.held || post.waiting.is_empty();",
        )],
    },
    Mutant {
        name: "LetterForgottenOnceDelivered",
        what: "what was delivered is not remembered",
        edits: &[(
            "messages/mailbox/delivery.rs",
            "            merged.writes.push(MailWrite::Put(Box::new(MailRow::Seen { id: *id, until_ms })));\n",
            "",
        )],
    },
    Mutant {
        name: "LetterShownBeforeDurable",
        what: "a message appears in the inbox before it is durable that it was delivered",
        edits: &[(
            "engine/post/delivery.rs",
            "        let ids = staging.letters.into_iter().map(|(_, id, _)| id).collect();",
            "        let ids: Vec<LetterId> = staging.letters.into_iter().map(|(_, id, _)| id).collect();\n        \
             self.effects.push_back(Effect::RevealLetters { ids: ids.clone() });",
        )],
    },
    Mutant {
        name: "LetterCursorTooEarly",
        what: "others are told of a delivery before it is durable",
        edits: &[(
            "engine/post/delivery.rs",
            "        let cursors = staging.upto.into_iter().collect();",
            "        let cursors: Vec<(StreamId, u64)> = staging.upto.into_iter().collect();\n        \
             self.posting.cursors.extend(cursors.iter().copied());",
        )],
    },
    Mutant {
        name: "LetterTwoPlaces",
        what: "a message that waits under two numbers is taken for two",
        edits: &[(
            "engine/post/delivery.rs",
            "due.retain(|(_, letter)| once.insert(letter.id));",
            "due.retain(|(_, letter)| once.insert(letter.id) || true);",
        )],
    },
    Mutant {
        name: "LetterGapSkipped",
        what: "a message is delivered although one before it is not known",
        edits: &[(
            "messages/mailbox/delivery.rs",
            "            let Some(letter) = stream.letters.get(&number) else { break };",
            "            let Some(letter) = stream.letters.get(&number) else {\n                if number > \
             stream.last() { break }\n                at = number;\n                continue;\n            };",
        )],
    },
    Mutant {
        name: "LetterBehindLostOne",
        what: "a message that waits for one that was lost counts as safe",
        edits: &[(
            "engine/post/mod.rs",
            "let known = mailbox.place(id).filter(|place| mailbox.is_whole(*place));",
            "let known = mailbox.place(id);",
        )],
    },
    Mutant {
        name: "LettersNeverCompared",
        what: "messages that were missed are not looked for",
        edits: &[("engine/post/mod.rs", "        self.tell_digest();\n", "")],
    },
];
