//! What may be typed, and what not.

use super::*;
use crate::config::{Http, ScrubEvery};
use crate::types::{MachineId, Pin};
use clap::CommandFactory;

fn parse(typed: &[&str]) -> Result<Arguments, clap::Error> {
    let arguments = Arguments::try_parse_from(std::iter::once("thorp").chain(typed.iter().copied()))?;
    arguments.check().map_err(|failure| {
        let text = format!("{failure}: {}", failure.hint.as_deref().unwrap_or_default());
        clap::Error::raw(clap::error::ErrorKind::ValueValidation, text)
    })?;
    Ok(arguments)
}

fn refused(typed: &[&str]) -> String {
    let error = parse(typed).map(|arguments| format!("{arguments:?}")).expect_err(&format!("{typed:?}"));
    assert_eq!(error.exit_code(), 2, "{typed:?}: {error}");
    error.to_string()
}

/// Every command, with those below it.
fn commands(command: clap::Command) -> Vec<clap::Command> {
    let below: Vec<clap::Command> = command.get_subcommands().cloned().collect();
    std::iter::once(command).chain(below.into_iter().flat_map(commands)).collect()
}

#[test]
fn the_definitions_do_not_contradict_each_other() {
    Arguments::command().debug_assert();
}

#[test]
fn every_option_has_its_variable_and_none_is_the_key() {
    for command in commands(Arguments::command()) {
        for option in command.get_arguments().filter(|argument| !argument.is_positional()) {
            let long = option.get_long().expect("a long name");
            assert_ne!(long, "key");
            // The filter of logs stands for the first two; a rebuild is one deed, not a setting.
            if !["quiet", "verbose", "help", "version", "rebuild"].contains(&long) {
                let variable = format!("THORP_{}", long.to_uppercase().replace('-', "_"));
                assert_eq!(option.get_env(), Some(variable.as_ref()), "--{long}");
            }
        }
    }
}

#[test]
fn the_key_cannot_be_an_argument() {
    for typed in [&["--key", "secret", "ls"][..], &["ls", "--key=secret"], &["up", "--key", "secret"]] {
        let message = refused(typed);
        assert!(!message.contains("secret") && message.contains("--key-file"), "{message}");
    }
}

#[test]
fn options_of_every_command_go_before_or_after_it() {
    for typed in [
        &["--port", "9000", "--timeout", "3s", "--peer", "a", "--peer", "b:1", "--json", "ls"][..],
        &["ls", "--port", "9000", "--timeout", "3s", "--peer", "a,b:1", "--json"],
    ] {
        let arguments = parse(typed).expect("valid");
        let given = arguments.given();
        assert_eq!((given.port, given.timeout), (Some(9000), Some(Duration::from_secs(3))));
        let peers = given.peers.expect("given");
        assert_eq!(peers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a", "b:1"]);
        assert!(arguments.global.json);
    }
}

#[test]
fn a_node_is_told_its_settings() {
    let given = parse(&[
        "up",
        "--role",
        "storage",
        "--name",
        "attic",
        "--capacity",
        "500G",
        "--machine",
        "m1",
        "--http",
        "off",
        "--heal-after",
        "2s",
        "--scrub-every",
        "3d",
    ])
    .expect("valid")
    .given();
    let days = Duration::from_secs(3 * 24 * 3600);
    assert_eq!(given.scrub_every, Some(ScrubEvery::Interval(days)));
    assert_eq!((given.role, given.capacity_bytes), (Some(Pin::Storage), Some(500_000_000_000)));
    assert_eq!((given.name.as_deref(), given.machine), (Some("attic"), MachineId::parse("m1")));
    assert_eq!((given.http, given.heal_after), (Some(Http::Off), Some(Duration::from_secs(2))));
    assert_eq!(parse(&["put", "x", "-n", "3"]).expect("valid").given().replicas, Some(3));
}

#[test]
fn wrong_values_say_what_is_allowed() {
    for (typed, word) in [
        (&["up", "--http", "nas:80"][..], "an address with a port"),
        (&["up", "--role", "king"], "storage"),
        (&["up", "--capacity", "much"], "500M"),
        (&["up", "--capacity", "-5G"], "500M"),
        (&["up", "--capacity", "99999999999G"], "too large"),
        (&["up", "--heal-after", "60"], "500ms"),
        (&["up", "--scrub-every", "0s"], "`off`"),
        (&["up", "--scrub-every", "weekly"], "500ms"),
        (&["verify", "../x"], "`..`"),
        (&["ls", "--timeout", "-3s"], "500ms"),
        (&["ls", "--timeout", "9999999d"], "too long"),
        (&["ls", "--port", "0"], "1 to 65535"),
        (&["ls", "--port", "65536"], "1 to 65535"),
        (&["ls", "--port", "-1"], "1 to 65535"),
        (&["ls", "--bind", "eth0"], "192.168"),
        (&["ls", "--peer", "a:b"], "HOST:PORT"),
        (&["ls", "--cluster", ""], "empty"),
        (&["put", "x", "-n", "0"], "1 to 64"),
        (&["put", "x", "-n", "65"], "1 to 64"),
        (&["put", "x", "-n", "-1"], "1 to 64"),
        (&["put", "x", "-n", "two"], "1 to 64"),
        (&["put", "x", "--replicas", "300"], "1 to 64"),
        (&["put", "x", "--as", "../x"], "`..`"),
        (&["put", "x", "--into", "/x"], "relative"),
        (&["put", "x", "y", "--as", "z"], "--as"),
        (&["put", "-"], "standard input"),
        (&["put", "-", "-", "--as", "z"], "once"),
        (&["put"], "PATH"),
        (&["get", "/etc/passwd"], "relative"),
        (&["get", "a", "b", "-o", "-"], "-o -"),
        (&["get", "a/", "-o", "-"], "-o -"),
        (&["get", "a", "-o", "-", "--json"], "--json"),
        (&["replicas", "x", "0"], "thorp rm"),
        (&["replicas", "x", "-1"], "1 to 64"),
        (&["replicas", "x", "65"], "1 to 64"),
        (&["replicas", "a/"], "empty part"),
        (&["rm", "a/"], "-r"),
        (&["share", "a/"], "empty part"),
        (&["share", "a", "--expires", "0s"], "a second"),
        (&["share", "a", "--expires", "32d"], "31 days"),
        (&["share", "a", "--expires", "-1h"], "500ms"),
        (&["hash", "-", "-"], "once"),
        (&["demo", "--nodes", "1"], "4..=32"),
        (&["key"], "new"),
        (&["nonsense"], "nonsense"),
        (&["ls", "-q", "-v"], "cannot be used with"),
    ] {
        let message = refused(typed);
        assert!(message.contains(word), "{typed:?}: {message}");
    }
}

#[test]
fn what_is_usual_is_accepted() {
    for typed in [
        &["put", "a", "b", "--into", "c/", "-n", "64", "--strict"][..],
        &["put", "-", "--as", "a/b"],
        &["put", "x", "--as", "y", "--into", "z"],
        &["put", "--", "-rf"],
        &["get", "a/", "b", "-o", "/tmp", "--force"],
        &["get", "a", "-o", "-"],
        &["ls"],
        &["ls", "ph", "-l"],
        &["replicas", "a"],
        &["replicas", "a", "1", "--wait", "--strict"],
        &["rm", "a", "b/", "-r"],
        &["share", "a/b", "--expires", "7d"],
        &["demo", "file", "--nodes", "7", "--keep"],
        &["key", "new", "--json"],
        &["completions", "zsh"],
        &["hash", "-", "a"],
        &["status", "-vv"],
    ] {
        assert!(parse(typed).is_ok(), "{typed:?}: {:?}", parse(typed));
    }
}

#[test]
fn a_flags_variable_takes_the_usual_words() {
    assert_eq!(["1", "TRUE", "yes"].map(parse_flag), [Ok(true), Ok(true), Ok(true)]);
    assert_eq!(["", "0", "off"].map(parse_flag), [Ok(false), Ok(false), Ok(false)]);
    assert!(parse_flag("maybe").is_err());
}
