//! The outbox with a node that is none.

use super::*;
use crate::messages::fixture::{folders, until};
use std::path::PathBuf;
use std::sync::Mutex;

/// What the node was given, and how it answers: by the type.
#[derive(Clone, Default)]
struct Node {
    given: Arc<Mutex<Vec<NewLetter>>>,
    later: Arc<AtomicBool>,
}

impl Node {
    fn given(&self) -> Vec<NewLetter> {
        self.given.lock().expect("not poisoned").clone()
    }

    fn kinds(&self) -> Vec<String> {
        self.given().iter().map(|letter| letter.kind.to_string()).collect()
    }
}

struct Running {
    node: Node,
    nudge: Arc<Notify>,
    _stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn start(folders: &Folders, node: Node) -> Running {
    let (stop, stopping) = watch::channel(false);
    let (of_post, nudge) = (node.clone(), Arc::new(Notify::new()));
    let post = move |letter: NewLetter| {
        of_post.given.lock().expect("not poisoned").push(letter.clone());
        let later = of_post.later.load(Ordering::Relaxed);
        async move {
            match letter.kind.as_str() {
                "never" => std::future::pending().await,
                "bad" => Posted::Refused("nobody has that name".into()),
                _ if later => Posted::Later("no proxy".into()),
                _ => Posted::Done,
            }
        }
    };
    let task = tokio::spawn(run(folders.clone(), "me".into(), post, Arc::clone(&nudge), stopping));
    Running { node, nudge, _stop: stop, task }
}

fn path(folders: &Folders, name: &str) -> PathBuf {
    folders.place(Place::Outbox).join(name)
}

fn put(folders: &Folders, name: &str, text: &str) {
    fs::write(path(folders, name), text).expect("written");
}

fn count(folders: &Folders, place: Place) -> usize {
    folders.names(place).expect("listed").len()
}

#[tokio::test]
async fn what_appears_is_sent_at_once_and_kept_with_everything_in_it() {
    let (_folder, folders) = folders();
    let running = start(&folders, Node::default());
    put(&folders, "first.json", r#"{"type":"first"}"#);
    until("it is sent", || count(&folders, Place::Sent) == 1).await;
    // From now on the folder is watched, so this is quick.
    let before = clock::now();
    put(
        &folders,
        "any name.json",
        r#"{"type":"hello","payload":{"b":1,"a":2},"target":"nas","expires":"1h"}"#,
    );
    until("it is sent", || count(&folders, Place::Sent) == 2).await;
    assert!(clock::now().since(before) < 2_000, "long before the next listing");
    let letter = running.node.given().remove(1);
    assert_eq!((&*letter.payload, letter.target.as_deref()), (r#"{"b":1,"a":2}"#, Some("nas")));
    assert!((3_590_000..=3_600_000).contains(&letter.lives_ms));
    let sent = folders.list(Place::Sent).expect("listed").remove(1);
    let document = sent.document.expect("a document");
    assert_eq!((&*document.source, &*document.id), ("me", &*letter.id.to_string()));
    assert_eq!(parse_file_name(&sent.name).expect("a name").1, letter.id);
    until("the outbox is empty", || count(&folders, Place::Outbox) == 0).await;
}

#[tokio::test]
async fn a_file_written_in_steps_is_sent_when_it_is_whole_and_a_bad_one_is_set_aside() {
    let (_folder, folders) = folders();
    let running = start(&folders, Node::default());
    put(&folders, "slow.json", "{\"type\":");
    put(&folders, "broken.json", "{\"type\":\"hello\"");
    put(&folders, "path.json", r#"{"type":"../../bin/x"}"#);
    put(&folders, "large.json", &format!(r#"{{"type":"hello","payload":"{}"}}"#, "x".repeat(1 << 20)));
    put(&folders, ".hidden.json", r#"{"type":"hidden"}"#);
    put(&folders, "other.txt", r#"{"type":"other"}"#);
    std::os::unix::fs::symlink(path(&folders, "other.txt"), path(&folders, "link.json")).expect("linked");
    until("the slow one is read", || fs::read(path(&folders, "slow.json")).is_ok()).await;
    put(&folders, "slow.json", r#"{"type":"slow"}"#);
    until("the slow one is sent", || count(&folders, Place::Sent) == 1).await;
    until("the bad ones are set aside", || count(&folders, Place::Failed) == 3).await;
    let reasons: Vec<_> = folders.list(Place::Failed).expect("listed");
    let reasons: Vec<_> = reasons.iter().map(|listed| listed.reason.clone().expect("a reason")).collect();
    assert!(reasons[0].contains("no JSON") && reasons[1].contains("thorp put"), "{reasons:?}");
    assert!(reasons[2].contains("`../../bin/x` is no type"), "{reasons:?}");
    assert_eq!(running.node.kinds(), ["slow"]);
    for name in [".hidden.json", "other.txt", "link.json"] {
        assert!(fs::symlink_metadata(path(&folders, name)).is_ok(), "{name} is none of ours");
    }
}

#[tokio::test]
async fn those_that_wait_together_go_by_priority_and_name() {
    let (_folder, folders) = folders();
    for (name, kind, priority) in [
        ("1", "e", "low"),
        ("2", "c", "normal"),
        ("3", "d", "normal"),
        ("4", "a", "high"),
        ("5", "b", "high"),
    ] {
        let text = format!(r#"{{"type":"{kind}","priority":"{priority}"}}"#);
        put(&folders, &format!("{name}.json"), &text);
    }
    let running = start(&folders, Node::default());
    until("all are sent", || count(&folders, Place::Sent) == 5).await;
    assert_eq!(running.node.kinds(), ["a", "b", "c", "d", "e"]);
}

#[tokio::test]
async fn what_cannot_be_sent_now_waits_and_what_never_can_is_set_aside() {
    let (_folder, folders) = folders();
    let node = Node::default();
    node.later.store(true, Ordering::Relaxed);
    let running = start(&folders, node.clone());
    put(&folders, "1.json", r#"{"type":"hello"}"#);
    put(&folders, "2.json", r#"{"type":"bad","priority":"low"}"#);
    until("it is refused", || count(&folders, Place::Failed) == 1).await;
    assert_eq!(
        folders.list(Place::Failed).expect("listed")[0].reason.as_deref(),
        Some("nobody has that name")
    );
    until("it is tried again", || node.kinds().iter().filter(|kind| *kind == "hello").count() >= 3).await;
    assert_eq!(count(&folders, Place::Outbox), 1);
    let given = node.given();
    let tries: BTreeSet<LetterId> =
        given.iter().filter(|letter| letter.kind.as_str() == "hello").map(|letter| letter.id).collect();
    assert_eq!(tries.len(), 1, "always under one id");
    node.later.store(false, Ordering::Relaxed);
    running.nudge.notify_one();
    until("it is sent", || count(&folders, Place::Sent) == 1).await;
}

#[tokio::test]
async fn what_expires_while_it_waits_is_set_aside() {
    let (_folder, folders) = folders();
    let node = Node::default();
    node.later.store(true, Ordering::Relaxed);
    let _running = start(&folders, node);
    put(&folders, "1.json", r#"{"type":"hello","expires":300}"#);
    until("it expires", || count(&folders, Place::Failed) == 1).await;
    let reason = folders.list(Place::Failed).expect("listed")[0].reason.clone();
    assert!(reason.is_some_and(|reason| reason.contains("expired")));
    assert_eq!(count(&folders, Place::Outbox), 0);
}

#[tokio::test]
async fn after_a_kill_a_letter_is_given_again_under_the_same_id() {
    let (_folder, folders) = folders();
    put(&folders, "a.json", r#"{"type":"never"}"#);
    let node = Node::default();
    let running = start(&folders, node.clone());
    until("it is given", || node.given().len() == 1).await;
    drop(running);
    let running = start(&folders, node.clone());
    until("it is given again", || node.given().len() == 2).await;
    drop(running);
    let given = node.given();
    assert_eq!(given[0].id, given[1].id);
    assert_eq!(count(&folders, Place::Outbox), 1);
}

#[tokio::test]
async fn a_thousand_files_are_sent_once_each() {
    let (_folder, folders) = folders();
    let running = start(&folders, Node::default());
    for number in 0..1_000 {
        put(&folders, &format!("{number:04}.json"), &format!(r#"{{"type":"t","payload":{number}}}"#));
    }
    until("all are sent", || count(&folders, Place::Sent) == 1_000).await;
    let given = running.node.given();
    assert_eq!(given.len(), 1_000, "each once");
    let ids: BTreeSet<LetterId> = given.iter().map(|letter| letter.id).collect();
    assert_eq!(ids.len(), 1_000);
}
