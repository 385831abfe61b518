//! The command line as a person or a script meets it, where no network is needed.

#![allow(clippy::expect_used, reason = "a test that cannot go on fails")]

use assert_cmd::Command;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

/// thorp, with a home of its own and no variables of whoever runs the tests.
fn thorp(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thorp"));
    command.env_clear().env("HOME", home).current_dir(home);
    command
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

struct Ended {
    code: i32,
    output: String,
    errors: String,
}

fn run(command: &mut Command) -> Ended {
    let output = command.output().expect("started");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ended {
        code: output.status.code().expect("an exit code"),
        output: text(output.stdout),
        errors: text(output.stderr),
    }
}

/// The document on standard output, which must be one line of JSON and nothing else.
fn document(ended: &Ended) -> serde_json::Value {
    assert_eq!(ended.output.lines().count(), 1, "{}", ended.output);
    serde_json::from_str(&ended.output).expect("JSON")
}

#[test]
fn help_and_version_go_to_standard_output() {
    let home = home();
    for typed in [&["--help"][..], &["help", "put"], &["put", "--help"], &["key", "new", "--help"]] {
        let ended = run(thorp(home.path()).args(typed));
        assert_eq!((ended.code, &*ended.errors), (0, ""), "{typed:?}");
        assert!(ended.output.contains("Example"), "{typed:?}: {}", ended.output);
    }
    let version = run(thorp(home.path()).arg("--version"));
    assert_eq!((version.code, version.output), (0, format!("thorp {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn wrong_usage_exits_with_2_and_prints_nothing_on_standard_output() {
    let home = home();
    for typed in [
        &[][..],
        &["nonsense"],
        &["put"],
        &["put", "x", "-n", "0"],
        &["put", "-"],
        &["ls", "--timeout", "soon"],
        &["ls", "--timeout", "-1s"],
        &["up", "--capacity", "1XB"],
        &["up", "--http", "0.0.0.0:80"],
        &["ls", "--key", "secret"],
        &["ls", "--config", "none.toml"],
    ] {
        let ended = run(thorp(home.path()).args(typed));
        assert_eq!((ended.code, &*ended.output), (2, ""), "{typed:?}: {}", ended.errors);
        assert!(!ended.errors.is_empty() && !ended.errors.contains("secret"), "{typed:?}");
    }
}

#[test]
fn no_copies_at_all_points_to_rm() {
    let home = home();
    let ended = run(thorp(home.path()).args(["replicas", "x", "0"]));
    assert_eq!(ended.code, 2);
    assert!(ended.errors.contains("thorp rm"), "{}", ended.errors);
}

#[test]
fn wrong_usage_is_a_json_error_for_those_who_asked_for_json() {
    let home = home();
    for (variable, typed) in [
        ("", &["--json", "nonsense"][..]),
        ("", &["replicas", "x", "0", "--json"]),
        ("", &["put", "-", "--json"]),
        ("1", &["ls", "--timeout", "soon"]),
    ] {
        let ended = run(thorp(home.path()).env("THORP_JSON", variable).args(typed));
        assert_eq!((ended.code, &*ended.errors), (2, ""), "{typed:?}");
        let error = &document(&ended)["error"];
        assert_eq!(error["code"], "usage", "{typed:?}");
        assert!(!error["message"].as_str().expect("text").is_empty());
        assert!(!error["hint"].as_str().expect("text").is_empty());
    }
}

#[test]
fn variables_stand_for_options_and_options_go_first() {
    let home = home();
    let ended = run(thorp(home.path()).env("THORP_TIMEOUT", "soon").args(["ls"]));
    assert_eq!(ended.code, 2);
    assert!(ended.errors.contains("500ms"), "{}", ended.errors);
    // An option in either place is stronger than the variable.
    for typed in [&["--config", "other.toml", "ls"][..], &["ls", "--config", "other.toml"]] {
        let ended = run(thorp(home.path()).env("THORP_CONFIG", "variable.toml").args(typed));
        assert!(
            ended.errors.contains("other.toml") && !ended.errors.contains("variable"),
            "{}",
            ended.errors
        );
    }
    let ended = run(thorp(home.path()).env("THORP_CONFIG", "variable.toml").arg("ls"));
    assert!(ended.errors.contains("variable.toml"), "{}", ended.errors);
    // Set to nothing, it is as if it were not set: what is refused is something else, later.
    let ended = run(thorp(home.path())
        .env("THORP_CONFIG", "")
        .env("THORP_PEER", "")
        .env("THORP_KEY", "correct horse")
        .args(["ls", "--key-file", "k"]));
    assert!(ended.errors.starts_with("error: both `THORP_KEY`"), "{}", ended.errors);
}

#[test]
fn a_wrong_config_file_is_refused_with_its_name_and_key() {
    let home = home();
    let folder = home.path().join(".config/thorp");
    std::fs::create_dir_all(&folder).expect("made");
    for (text, word) in [
        (&b"prot = 1"[..], "unknown key `prot`"),
        (b"timeout = \"soon\"", "`timeout`"),
        (b"port = 0", "`port`"),
        (b"name = \"\xff\"", "UTF-8"),
        (b"[[[", "line 1"),
    ] {
        std::fs::write(folder.join("config.toml"), text).expect("written");
        let ended = run(thorp(home.path()).env("XDG_CONFIG_HOME", home.path().join(".config")).arg("ls"));
        assert_eq!(ended.code, 2, "{}", ended.errors);
        assert!(ended.errors.contains(word) && ended.errors.contains("config.toml"), "{}", ended.errors);
        assert!(ended.errors.contains("hint: "), "{}", ended.errors);
    }
    // What needs no settings still works.
    let ended =
        run(thorp(home.path()).env("XDG_CONFIG_HOME", home.path().join(".config")).args(["key", "new"]));
    assert_eq!(ended.code, 0, "{}", ended.errors);
}

#[test]
fn a_key_given_twice_or_empty_is_refused_and_never_shown() {
    let home = home();
    let ended = run(thorp(home.path()).env("THORP_KEY", "correct horse").args(["ls", "--key-file", "k"]));
    assert_eq!(ended.code, 2);
    assert!(ended.errors.contains("THORP_KEY") && ended.errors.contains("--key-file"), "{}", ended.errors);
    assert!(!ended.errors.contains("horse"));
    let ended = run(thorp(home.path()).env("THORP_KEY", "").arg("ls"));
    assert_eq!(ended.code, 2, "an empty key must not mean an open LAN");
    let ended = run(thorp(home.path()).env("THORP_KEY_FILE", "").arg("ls"));
    assert_eq!(ended.code, 2, "an empty name of a key file must not mean an open LAN");
}

#[test]
fn keys_are_long_and_never_the_same() {
    let home = home();
    let keys: Vec<String> = (0..8)
        .map(|_| {
            let ended = run(thorp(home.path()).args(["key", "new"]));
            assert_eq!((ended.code, ended.output.lines().count()), (0, 1));
            ended.output.trim_end().to_owned()
        })
        .collect();
    for (at, key) in keys.iter().enumerate() {
        assert!(!keys[..at].contains(key));
        // 128 bits are 32 hexadecimal digits, or longer as words.
        assert!(
            key.chars().filter(|c| c.is_alphanumeric()).count() >= 32,
            "too short: {} characters",
            key.len()
        );
    }
    let ended = run(thorp(home.path()).args(["key", "new", "--json"]));
    assert!(document(&ended)["key"].as_str().expect("text").len() >= 32);
}

#[test]
fn hashes_follow_from_the_bytes_alone() {
    let home = home();
    let write = |name: &str, bytes: &[u8]| {
        let path = home.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, bytes).expect("written");
    };
    // More than one read of the buffer, and not the same bytes throughout.
    let mut large: Vec<u8> =
        (0..20_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    write("folder/a", &large);
    write("folder/deep/b", b"hello, thorp\n");
    write("copy", &large);
    large[15_000_000] ^= 1;
    write("changed", &large);
    write("empty", b"");
    let id = |typed: &[&str]| {
        let ended = run(thorp(home.path()).arg("hash").args(typed));
        assert_eq!((ended.code, &*ended.errors), (0, ""), "{typed:?}");
        ended
            .output
            .lines()
            .map(|line| line.split_once("  ").expect("two columns").0.to_owned())
            .collect::<Vec<_>>()
    };
    let hello = "14a1cd02af1fa505cf725de43f4208c179d9c775cf262ff632ee054408a1c3a3";
    let folder = id(&["folder"]);
    assert_eq!(folder, [id(&["copy"])[0].clone(), hello.to_owned()]);
    assert_eq!(id(&["copy"]), id(&["copy"]));
    assert_ne!(id(&["copy"]), id(&["changed"]));
    assert_eq!(id(&["empty"]), ["679fce3e8ad23694e9158259cf02774f07eefb4119089b5c7d4a447a2fcadc75"]);
    let piped = run(thorp(home.path()).args(["hash", "-"]).write_stdin("hello, thorp\n"));
    assert_eq!(piped.output, format!("{hello}  -\n"));
    let ended = run(thorp(home.path()).args(["hash", "folder/deep", "--json"]));
    let rows = document(&ended);
    assert_eq!(
        (&rows[0]["content"], &rows[0]["bytes"], &rows[0]["path"]),
        (&hello.into(), &13.into(), &"folder/deep/b".into())
    );
}

#[test]
fn a_file_that_is_not_there_is_told_by_code_and_words() {
    let home = home();
    let ended = run(thorp(home.path()).args(["hash", "none"]));
    assert_eq!((ended.code, &*ended.output), (4, ""));
    assert!(ended.errors.starts_with("error: ") && ended.errors.contains("`none`"), "{}", ended.errors);
    let ended = run(thorp(home.path()).args(["hash", "none", "--json"]));
    assert_eq!((ended.code, &*ended.errors), (4, ""));
    assert_eq!(document(&ended)["error"]["code"], "not_found");
}

#[test]
fn completions_and_manual_know_the_commands() {
    let home = home();
    for shell in ["bash", "zsh", "fish"] {
        let ended = run(thorp(home.path()).args(["completions", shell]));
        assert_eq!((ended.code, &*ended.errors), (0, ""));
        assert!(ended.output.contains("replicas") && ended.output.contains("heal-after"), "{shell}");
    }
    let ended = run(thorp(home.path()).arg("man"));
    assert_eq!(ended.code, 0);
    assert!(ended.output.contains(".TH thorp 1"));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let home = home();
    let large = home.path().join("many");
    std::fs::create_dir(&large).expect("made");
    for number in 0..2_000 {
        std::fs::write(large.join(format!("{number:0100}")), b"x").expect("written");
    }
    for typed in
        [&["man"][..], &["completions", "zsh"], &["--help"], &["hash", "many"], &["hash", "many", "--json"]]
    {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_thorp"))
            .args(typed)
            .env_clear()
            .current_dir(home.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut first = [0; 1];
        child.stdout.take().expect("piped").read_exact(&mut first).expect("one byte");
        let ended = child.wait_with_output().expect("ended");
        assert_eq!(ended.status.code(), Some(0), "{typed:?}");
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "{typed:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let home = home();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("there");
    let ended = std::process::Command::new(env!("CARGO_BIN_EXE_thorp"))
        .arg("man")
        .env_clear()
        .current_dir(home.path())
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .expect("ended");
    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("standard output"));
}

#[test]
fn a_wrong_log_filter_is_wrong_usage() {
    let home = home();
    let ended = run(thorp(home.path()).env("THORP_LOG", "thorp=louder").args(["key", "new"]));
    assert_eq!(ended.code, 2);
    assert!(ended.errors.contains("THORP_LOG"), "{}", ended.errors);
    let ended = run(thorp(home.path()).env("THORP_LOG", "debug").args(["key", "new"]));
    assert_eq!(ended.code, 0);
}
