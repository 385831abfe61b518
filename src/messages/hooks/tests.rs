//! Hooks as real processes of /bin/sh.

use super::*;
use crate::messages::fixture::{deliver, folders, hook, letter, until};
use crate::messages::folders::Place;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// A node's hooks that run; told to stop when dropped.
struct Running {
    hooks: Hooks,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(folders: &Folders, options: Options) -> Running {
        let (hooks, task) = Hooks::new(folders.clone(), "me", options);
        let (stop, stopping) = watch::channel(false);
        Running { hooks, stop, task: tokio::spawn(task.run(stopping)) }
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(Duration::from_secs(5), self.task).await.expect("in time").expect("ended");
    }
}

const ONE_TRY: Options = Options {
    sent_ttl: None,
    inbox_ttl: None,
    hook_timeout: Duration::from_secs(20),
    hook_tries: 1,
    hooks_at_once: 4,
};

/// The record of the only letter of a folder, once its hook has ended.
async fn record(folders: &Folders, place: Place) -> HookRecord {
    until("a hook ends", || {
        let listed = folders.list(place).expect("listed");
        listed
            .first()
            .and_then(|first| first.hook.as_ref())
            .is_some_and(|hook| matches!(hook.state, HookState::Done | HookState::Failed))
    })
    .await;
    folders.list(place).expect("listed").remove(0).hook.expect("a record")
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn is_alive(pid: &str) -> bool {
    // A zombie that nobody reaps (there may be no init) is not alive.
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[tokio::test]
async fn a_hook_gets_the_letter_and_a_clean_environment() {
    let (folder, folders) = folders();
    hook(&folders, "hello", "cat > got; env | sort > variables; pwd > folder; echo to; echo err >&2");
    let running = Running::start(&folders, ONE_TRY);
    let letter = letter("nas", 1);
    running.hooks.tell(deliver(&folders, std::slice::from_ref(&letter)));
    let record = record(&folders, Place::Inbox).await;
    assert_eq!((record.state, record.attempts.len()), (HookState::Done, 1));
    let attempt = &record.attempts[0];
    assert_eq!((attempt.exit, attempt.signal, &*attempt.output), (Some(0), None, "to\nerr\n"));
    let root = folders.root();
    let file = &folders.names(Place::Inbox).expect("listed")[0];
    let text = fs::read_to_string(folders.place(Place::Inbox).join(file)).expect("read");
    assert_eq!(fs::read_to_string(root.join("got")).expect("read"), text);
    assert_eq!(lines(&root.join("folder")), [root.to_str().expect("text")]);
    let data_dir = fs::canonicalize(folder.path()).expect("there");
    // The shell adds the last two itself.
    let shells =
        |line: &&String| !["PWD=", "_=", "SHLVL=", "OLDPWD="].iter().any(|own| line.starts_with(own));
    let mut expected: Vec<String> = ["PATH", "HOME", "USER", "LANG", "TZ"]
        .iter()
        .filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)))
        .collect();
    expected.push(format!("THORP_MESSAGE_ID={}", letter.id));
    expected.push("THORP_MESSAGE_TYPE=hello".into());
    expected.push("THORP_MESSAGE_SOURCE=nas".into());
    expected.push(format!("THORP_DATA_DIR={}", data_dir.display()));
    expected.sort();
    let found = lines(&root.join("variables"));
    assert_eq!(found.iter().filter(shells).collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    running.stop().await;
}

#[tokio::test]
async fn a_hook_that_fails_is_tried_again_and_then_the_letter_is_set_aside() {
    let (_folder, folders) = folders();
    hook(&folders, "default", "echo x >> tries; exit 7");
    let running = Running::start(&folders, Options { hook_tries: 2, ..ONE_TRY });
    running.hooks.tell(deliver(&folders, &[letter("a", 1)]));
    let first = record(&folders, Place::Failed).await;
    assert_eq!((first.state, first.attempts.len()), (HookState::Failed, 2));
    assert!(first.attempts.iter().all(|attempt| attempt.exit == Some(7)));
    assert_eq!(lines(&folders.root().join("tries")).len(), 2);
    let failed = folders.list(Place::Failed).expect("listed").remove(0);
    let reason = failed.reason.expect("a reason");
    assert!(reason.contains("exit code 7") && reason.contains("2 tries"), "{reason}");
    until("it leaves the inbox", || folders.names(Place::Inbox).expect("listed").is_empty()).await;
    until("it waits no more", || disk::names(&folders.pending()).expect("listed").is_empty()).await;
    // Tried again by a command, it is run without being told of.
    hook(&folders, "default", "exit 0");
    folders.retry(&failed.name).expect("retried");
    assert_eq!(record(&folders, Place::Inbox).await.state, HookState::Done);
    running.stop().await;
}

#[tokio::test]
async fn a_hook_that_hangs_is_ended_with_all_that_it_started() {
    let (_folder, folders) = folders();
    hook(
        &folders,
        "hello",
        "trap '' TERM; (trap '' TERM; echo $$ > outer; sleep 600) & echo $! > inner; wait; sleep 600",
    );
    let timeout = Duration::from_millis(300);
    let running = Running::start(&folders, Options { hook_timeout: timeout, ..ONE_TRY });
    let started = clock::now();
    running.hooks.tell(deliver(&folders, &[letter("a", 1)]));
    let record = record(&folders, Place::Failed).await;
    let limit = 300 + 5_000 + 1_000 + 4_000;
    assert!(clock::now().since(started) < limit, "{record:?}");
    let attempt = &record.attempts[0];
    assert_eq!((attempt.exit, attempt.signal), (None, Some(9)), "{attempt:?}");
    assert!(attempt.error.as_deref().is_some_and(|error| error.contains("0.3 s")), "{attempt:?}");
    for name in ["outer", "inner"] {
        let pid = lines(&folders.root().join(name)).remove(0);
        until("nothing is left", || !is_alive(&pid)).await;
    }
    running.stop().await;
}

#[tokio::test]
async fn a_hook_that_leaves_a_process_behind_keeps_nobody_waiting() {
    let (_folder, folders) = folders();
    hook(&folders, "hello", "sleep 600 & echo $! > left; echo said");
    let running = Running::start(&folders, ONE_TRY);
    let started = clock::now();
    running.hooks.tell(deliver(&folders, &[letter("a", 1)]));
    let record = record(&folders, Place::Inbox).await;
    assert_eq!((record.attempts[0].exit, &*record.attempts[0].output), (Some(0), "said\n"));
    assert!(clock::now().since(started) < 10_000);
    let pid = lines(&folders.root().join("left")).remove(0);
    until("it is ended", || !is_alive(&pid)).await;
    running.stop().await;
}

#[tokio::test]
async fn only_the_end_of_the_output_is_kept_and_a_large_letter_may_be_left_unread() {
    let (_folder, folders) = folders();
    hook(&folders, "hello", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done");
    let running = Running::start(&folders, ONE_TRY);
    let mut large = letter("a", 1);
    large.payload = format!("\"{}\"", "x".repeat(300_000)).into();
    running.hooks.tell(deliver(&folders, &[large]));
    let record = record(&folders, Place::Inbox).await;
    let output = &record.attempts[0].output;
    assert_eq!(record.attempts[0].exit, Some(0), "{record:?}");
    assert!(output.len() <= 4096 && output.ends_with("line 19999\n"), "{} bytes", output.len());
    running.stop().await;
}

#[tokio::test]
async fn one_senders_letters_go_in_order_and_no_more_at_once_than_allowed() {
    let (_folder, folders) = folders();
    let script = "echo $THORP_MESSAGE_SOURCE+ >> at_once; cat >> order-$THORP_MESSAGE_SOURCE; \
                  i=0; while [ $i -lt 300 ]; do i=$((i+1)); done; echo $THORP_MESSAGE_SOURCE- >> at_once";
    hook(&folders, "hello", script);
    let running = Running::start(&folders, Options { hooks_at_once: 2, ..ONE_TRY });
    let letters: Vec<_> =
        (1..=5).flat_map(|number| ["a", "b", "c"].map(|source| letter(source, number))).collect();
    running.hooks.tell(deliver(&folders, &letters));
    until("all are done", || disk::names(&folders.pending()).expect("listed").is_empty()).await;
    for source in ["a", "b", "c"] {
        let got = lines(&folders.root().join(format!("order-{source}")));
        let numbers: Vec<i64> = got
            .iter()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).expect("JSON")["payload"]["n"].as_i64()
            })
            .map(|number| number.expect("a number"))
            .collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5], "{source}");
    }
    let (mut now, mut most, mut of_one) = (0, 0, BTreeMap::<String, i32>::new());
    for line in lines(&folders.root().join("at_once")) {
        let step = if line.ends_with('+') { 1 } else { -1 };
        now += step;
        most = most.max(now);
        let one = of_one.entry(line[..1].to_owned()).or_default();
        *one += step;
        assert!(*one <= 1, "two of one sender at once");
    }
    assert!(most <= 2, "{most} at once");
    running.stop().await;
}

#[tokio::test]
async fn a_hook_that_others_could_have_written_is_refused_once() {
    let (_folder, folders) = folders();
    hook(&folders, "hello", "touch ran");
    fs::set_permissions(folders.hooks().join("hello"), fs::Permissions::from_mode(0o722)).expect("set");
    let running = Running::start(&folders, Options { hook_tries: 3, ..ONE_TRY });
    running.hooks.tell(deliver(&folders, &[letter("a", 1)]));
    let record = record(&folders, Place::Failed).await;
    assert_eq!((record.state, record.attempts.len()), (HookState::Failed, 1));
    assert!(record.attempts[0].error.as_deref().is_some_and(|error| error.contains("chmod go-w")));
    assert!(!folders.root().join("ran").exists());
    running.stop().await;
}

#[tokio::test]
async fn after_a_kill_what_waited_or_ran_is_run_even_if_its_file_was_taken() {
    let (_folder, folders) = folders();
    hook(&folders, "hello", "cat >> got");
    let letters = [letter("a", 1), letter("a", 2)];
    // Nobody is told: the node is killed before.
    let waiting = deliver(&folders, &letters);
    let path = folders.pending().join(&waiting[0].name);
    let mut running_record = HookRecord::read(&path).expect("a record");
    running_record.state = HookState::Running;
    folders.save_hook(&waiting[0].name, &running_record).expect("saved");
    assert_eq!(folders.flush(Place::Inbox).expect("removed"), 2);
    let running = Running::start(&folders, ONE_TRY);
    until("both were run", || lines(&folders.root().join("got")).len() == 2).await;
    until("they wait no more", || disk::names(&folders.pending()).expect("listed").is_empty()).await;
    assert!(
        disk::names(&folders.hooks_done()).expect("listed").is_empty(),
        "nothing is kept of what is gone"
    );
    running.stop().await;
    let running = Running::start(&folders, ONE_TRY);
    running.stop().await;
    assert_eq!(lines(&folders.root().join("got")).len(), 2, "and not once more");
}

#[tokio::test]
async fn when_the_node_ends_a_hook_is_told_and_run_again_next_time() {
    let (_folder, folders) = folders();
    hook(&folders, "hello", "trap 'echo told >> log; exit 0' TERM; echo begun >> log; sleep 600 & wait");
    let running = Running::start(&folders, ONE_TRY);
    running.hooks.tell(deliver(&folders, &[letter("a", 1)]));
    until("it runs", || lines(&folders.root().join("log")).len() == 1).await;
    running.stop().await;
    assert_eq!(lines(&folders.root().join("log")), ["begun", "told"]);
    hook(&folders, "hello", "echo again >> log");
    let running = Running::start(&folders, ONE_TRY);
    let record = record(&folders, Place::Inbox).await;
    assert_eq!((record.state, record.attempts.len()), (HookState::Done, 1));
    running.stop().await;
}

#[tokio::test]
async fn events_have_hooks_of_their_own_and_never_the_default() {
    let (_folder, folders) = folders();
    hook(&folders, "default", "touch wrong");
    hook(&folders, "thorp.node.lost", "cat >> events");
    let running = Running::start(&folders, ONE_TRY);
    let kind = |text: &str| LetterType::parse(text).expect("a type");
    assert!(
        running.hooks.wants(&kind("thorp.node.lost")) && !running.hooks.wants(&kind("thorp.node.joined"))
    );
    running.hooks.event(kind("thorp.node.joined"), serde_json::json!({}));
    running.hooks.event(kind("hello"), serde_json::json!({}));
    running.hooks.event(kind("thorp.node.lost"), serde_json::json!({"name": "nas"}));
    until("it is run", || !lines(&folders.root().join("events")).is_empty()).await;
    let event: serde_json::Value =
        serde_json::from_str(&lines(&folders.root().join("events"))[0]).expect("JSON");
    assert_eq!((&event["type"], &event["source"]), (&"thorp.node.lost".into(), &"me".into()));
    assert_eq!(event["payload"]["name"], "nas");
    assert!(LetterId::parse(event["id"].as_str().expect("text")).is_some());
    running.stop().await;
    assert!(!folders.root().join("wrong").exists());
    assert!(folders.names(Place::Inbox).expect("listed").is_empty());
}

#[tokio::test]
async fn events_that_are_too_many_are_dropped_and_nobody_waits() {
    let (_folder, folders) = folders();
    hook(&folders, "thorp.file.stored", "exit 0");
    // Nothing runs them.
    let (hooks, task) = Hooks::new(folders, "me", ONE_TRY);
    let kind = LetterType::parse("thorp.file.stored").expect("a type");
    for number in 0..2 * HOOK_EVENTS_MAX {
        hooks.event(kind.clone(), serde_json::json!(number));
    }
    assert_eq!(task.events.len(), HOOK_EVENTS_MAX);
}
