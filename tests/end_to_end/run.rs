//! Programs on another machine, as if they were here: codes, bytes, arguments, environment, signals, terminals.

use crate::process::{Process, s, wait_until};
use crate::village::Village;
use rustix::process::Signal;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::Stdio;

/// Two machines that allow it.
fn two() -> Village {
    Village::closed(2, &["--allow-run"])
}

/// The arguments of a shell script on `b`.
fn script(text: &str) -> Vec<String> {
    ["run", "--on", "b", "--", "sh", "-c", text].map(str::to_owned).to_vec()
}

fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[test]
fn a_program_ends_with_its_own_code_and_says_what_it_says() {
    let village = two();
    for code in [0, 1, 3, 5, 6, 125, 255] {
        village.run(&words(&script(&format!("exit {code}")))).ended(code);
    }
    for (signal, code) in [("KILL", 137), ("SEGV", 139), ("TERM", 143)] {
        village.run(&words(&script(&format!("kill -{signal} $$")))).ended(code);
    }
    let ended = village.run(&words(&script("echo out; echo err >&2; printf 'no end'"))).ended(0);
    assert_eq!((&*ended.bytes, &*ended.stderr), (&b"out\nno end"[..], "err\n"));
    let missing = village.run(&["run", "--on", "b", "no-such-program"]).ended(127);
    assert!(missing.stderr.contains("no-such-program"), "{missing}");
    village.run(&["run", "--on", "b", "/etc/passwd"]).ended(126);
    let nowhere = village.run(&["run", "--on", "nobody", "true"]).ended(4);
    assert!(nowhere.stderr.contains("nobody"), "{nowhere}");
    let here = village.run(&["run", "--on", "b", "./no-such-file"]).ended(4);
    assert!(here.stderr.contains("no-such-file"), "{here}");
}

#[test]
fn output_is_the_same_to_the_byte() {
    let village = two();
    // A line of 1 MiB, bytes that are no text, and no end of the last line.
    let mut bytes = vec![b'x'; 1 << 20];
    bytes.push(b'\n');
    bytes.extend((0..=255_u8).cycle().take(300_000));
    let file = village.path("bytes");
    fs::write(&file, &bytes).expect("a file");
    let fed = village.feed(&["run", "--on", "b", "cat"], &file).ended(0);
    assert!(fed.bytes == bytes, "{} of {} bytes came", fed.bytes.len(), bytes.len());
    let both = village.feed(&["run", "--on", "b", "--", "sh", "-c", "tee /dev/stderr"], &file);
    assert!(both.bytes == bytes && both.code == 0);
    // A program that does not read its input is not waited for, nor is one that goes on without.
    village.feed(&["run", "--on", "b", "true"], &file).ended(0);
    let counted =
        village.feed(&["run", "--on", "b", "--", "sh", "-c", "exec <&-; echo done"], &file).ended(0);
    assert_eq!(counted.bytes, b"done\n");
    // More than is kept on disk: the program waits for whoever reads.
    let ended = village.run(&words(&script("head -c 150000000 /dev/zero"))).ended(0);
    assert!(ended.bytes.len() == 150_000_000 && ended.bytes.iter().all(|byte| *byte == 0));
}

#[test]
fn arguments_and_environment_arrive_as_they_are() {
    let village = two();
    let strange = OsString::from_vec(b"caf\xe9 \xff".to_vec());
    let arguments: Vec<&OsStr> =
        ["it's", "a b", "", "two\nlines", "$HOME `id` \\ \"", "-x", "--on", "*"].map(OsStr::new).to_vec();
    let mut command = village.command(&village.path("client"), &["run", "--on", "b"]);
    command.arg("--env").arg("GREETING=say \"hi\", it's me=you").arg("--env").arg({
        let mut variable = OsString::from("STRANGE=");
        variable.push(&strange);
        variable
    });
    command.args([
        "--",
        "sh",
        "-c",
        "printf '%s\\0' \"$@\"; printf '%s\\0' \"$GREETING\" \"$STRANGE\" \"$SECRET\"",
        "sh",
    ]);
    command.args(&arguments).arg(&strange).env("SECRET", "of whoever starts it");
    let ended = village.spawn(command, "arguments").wait(s(30)).ended(0);
    let came: Vec<&[u8]> = ended.bytes.split(|byte| *byte == 0).collect();
    let mut wanted: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_bytes()).collect();
    wanted.extend([strange.as_bytes(), b"say \"hi\", it's me=you", strange.as_bytes(), b"", b""]);
    assert_eq!(came, wanted);
    let environment = village.run(&words(&script("env"))).ended(0).text();
    assert!(environment.contains("PATH=") && !environment.contains("THORP_KEY"), "{environment}");
    let wrong = village.run(&["run", "--on", "b", "--env", "NOVALUE", "true"]).ended(2);
    assert!(wrong.stderr.contains("NAME=VALUE"), "{wrong}");
}

#[test]
fn interrupts_reach_the_whole_group_and_its_last_words_and_code_come_back() {
    let village = two();
    // The trap is the program's own end; the child shows that it is the group that is interrupted.
    let text = "trap 'echo cleaned; exit 7' INT; \
                sh -c 'trap \"echo child; exit 0\" INT; echo ready; while :; do sleep 0.05; done'";
    let mut running = village.start(&words(&script(text)));
    wait_for_text(&running, "ready\n");
    running.signal(Signal::INT);
    let ended = running.wait(s(20)).ended(7);
    let said = ended.text();
    assert!(said.contains("cleaned\n") && said.contains("child\n"), "{said}");

    // The second asks it to end, the third ends it.
    let text = "trap 'echo int' INT; trap 'echo term' TERM; echo ready; while :; do sleep 0.05; done";
    let mut running = village.start(&words(&script(text)));
    wait_for_text(&running, "ready\n");
    running.signal(Signal::INT);
    wait_for_text(&running, "int\n");
    running.signal(Signal::INT);
    wait_for_text(&running, "term\n");
    running.signal(Signal::INT);
    running.wait(s(20)).ended(137);

    let mut running = village
        .start(&words(&script("trap 'echo hup; exit 9' HUP; echo ready; while :; do sleep 0.05; done")));
    wait_for_text(&running, "ready\n");
    running.signal(Signal::HUP);
    assert!(running.wait(s(20)).ended(9).text().contains("hup"));
}

#[test]
fn a_suspended_command_suspends_its_program() {
    let village = two();
    let text = "echo $$; i=0; while [ $i -lt 40 ]; do i=$((i+1)); sleep 0.05; done; exit 4";
    let mut running = village.start(&words(&script(text)));
    wait_for_text(&running, "\n");
    let program: u32 = String::from_utf8(running.stdout()).expect("text").trim().parse().expect("a number");
    let is_stopped = |process: u32| {
        fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| stat.contains(") T "))
    };
    running.signal(Signal::TSTP);
    wait_until(s(20), "both are stopped", || {
        if is_stopped(program) && is_stopped(running.id()) { Ok(()) } else { Err("not yet".into()) }
    });
    running.signal(Signal::CONT);
    running.wait(s(20)).ended(4);
}

/// Longer than its node waits for a word of it.
#[test]
fn a_command_that_was_suspended_for_long_goes_on_with_its_program() {
    let village = two();
    let mut running = village
        .start(&words(&script("echo $$; i=0; while [ $i -lt 20 ]; do i=$((i+1)); sleep 0.05; done; exit 4")));
    wait_for_text(&running, "\n");
    let since = thorp::clock::now();
    running.signal(Signal::TSTP);
    let long = u64::try_from(thorp::limits::RUN_SESSION_SILENCE.as_millis()).expect("short") + 2_000;
    wait_until(s(40), "its session is given up", || {
        let jobs = village.json(&["jobs", "b"]);
        let past = thorp::clock::now().since(since);
        if jobs[0]["sessions"] == 0 && past > long { Ok(()) } else { Err(format!("after {past} ms: {jobs}")) }
    });
    running.signal(Signal::CONT);
    running.wait(s(30)).ended(4);
}

fn wait_for_text(process: &Process, text: &str) {
    wait_until(s(20), &format!("it says {text:?}"), || {
        let said = String::from_utf8_lossy(&process.stdout()).into_owned();
        if said.contains(text) { Ok(()) } else { Err(format!("{said:?} {}", process.stderr())) }
    });
}

#[test]
fn whoever_closes_the_pipe_ends_the_program_as_here() {
    let village = two();
    let mut command = village.command(&village.path("client"), &["run", "--on", "b", "yes"]);
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    command.stdout(Stdio::null());
    let mut running =
        Process::start(command, "yes", &village.path("logs"), Stdio::null(), Some(writer.into()));
    let mut some = [0; 10];
    reader.read_exact(&mut some).expect("output");
    drop(reader);
    running.wait(s(20)).ended(141); // SIGPIPE
}

#[test]
fn a_terminal_is_a_terminal() {
    let village = two();
    let (ours, theirs) = terminal(33, 101);
    let text =
        "test -t 0 && test -t 1 && echo a tty; stty size; stty -echo; read line; echo got $line; read never";
    let mut command =
        village.command(&village.path("client"), &["run", "--on", "b", "-t", "--", "sh", "-c", text]);
    command.env("TERM", "dumb");
    let stdin = theirs.try_clone().expect("a descriptor");
    let mut running =
        Process::start(command, "a terminal", &village.path("logs"), stdin.into(), Some(theirs.into()));
    let mut screen = Screen::of(&ours);
    screen.wait_for("a tty");
    screen.wait_for("33 101");
    (&ours).write_all(b"hello\r").expect("keys");
    screen.wait_for("got hello");
    (&ours).write_all(&[3]).expect("Ctrl-C");
    running.wait(s(20)).ended(130);
    let before = village.run(&["run", "--on", "b", "-t", "true"]).ended(2);
    assert!(before.stderr.contains("--tty"), "{before}");
}

/// Single keys, the alternate screen, another size while it runs; afterwards the terminal is as before.
#[test]
fn a_full_screen_program_finds_what_it_needs() {
    let village = two();
    let (ours, theirs) = terminal(24, 80);
    let before = rustix::termios::tcgetattr(&theirs).expect("attributes");
    // Keys are waited for 100 ms at a time: a shell may run its traps only in between.
    let text = "trap 'printf \"size=%s.\" \"$(stty size)\"' WINCH; stty raw -echo min 0 time 1; \
                printf '\\033[?1049h\\033[2Jready.'; \
                key=; until [ \"$key\" ]; do key=$(dd bs=1 count=1 2>/dev/null); done; printf \"key=$key.\"; \
                until key=$(dd bs=1 count=1 2>/dev/null) && [ \"$key\" = q ]; do :; done; \
                stty sane; printf '\\033[?1049l'; exit 12";
    let mut command =
        village.command(&village.path("client"), &["run", "--on", "b", "-t", "--", "sh", "-c", text]);
    command.env("TERM", "xterm");
    let stdin = theirs.try_clone().expect("a descriptor");
    let stdout = theirs.try_clone().expect("a descriptor");
    let logs = village.path("logs");
    let mut running = Process::start(command, "full screen", &logs, stdin.into(), Some(stdout.into()));
    let mut screen = Screen::of(&ours);
    screen.wait_for("\u{1b}[?1049h\u{1b}[2Jready.");
    (&ours).write_all(b"x").expect("a key without a line's end");
    screen.wait_for("key=x.");
    resize(&ours, 50, 132);
    // Its terminal is not this process's own, so nobody tells it but us.
    running.signal(Signal::WINCH);
    // The shell looks at its signals between two keys.
    wait_until(s(20), "the other size is seen", || {
        (&ours).write_all(b"z").expect("a key");
        let shown = screen.text();
        if shown.contains("size=50 132.") { Ok(()) } else { Err(shown) }
    });
    (&ours).write_all(b"q").expect("a key");
    running.wait(s(20)).ended(12);
    let after = rustix::termios::tcgetattr(&theirs).expect("attributes");
    assert_eq!((after.local_modes, after.input_modes), (before.local_modes, before.input_modes));
}

/// Both ends of a new terminal.
fn terminal(rows: u16, columns: u16) -> (File, File) {
    use rustix::pty::OpenptFlags;
    let ours = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    rustix::pty::grantpt(&ours).expect("a terminal");
    rustix::pty::unlockpt(&ours).expect("a terminal");
    let name = rustix::pty::ptsname(&ours, Vec::new()).expect("a name");
    let path = Path::new(OsStr::from_bytes(name.as_bytes()));
    let theirs = fs::OpenOptions::new().read(true).write(true).open(path).expect("a terminal");
    let ours = ours.into();
    resize(&ours, rows, columns);
    (ours, theirs)
}

fn resize(terminal: &File, rows: u16, columns: u16) {
    let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size).expect("a size");
}

/// What a terminal shows.
struct Screen {
    shown: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
}

impl Screen {
    fn of(terminal: &File) -> Screen {
        let shown = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let (mut terminal, to) = (terminal.try_clone().expect("a descriptor"), shown.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(count @ 1..) = terminal.read(&mut buffer) {
                to.lock().expect("whole").extend_from_slice(&buffer[..count]);
            }
        });
        Screen { shown }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("whole")).into_owned()
    }

    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        wait_until(s(20), &format!("the terminal shows {text:?}"), || {
            let shown = self.text();
            if shown.contains(text) { Ok(()) } else { Err(shown) }
        });
    }
}

#[test]
fn nobody_runs_anything_without_key_and_consent() {
    let open = Village::of(1, &["--allow-run"]);
    let denied = open.fails(&["run", "--on", "a", "--detach", "true"], 6);
    assert!(denied.message.contains("no key") && denied.hint.contains("thorp key new"), "{denied:?}");
    assert!(!open.data("a").join("jobs").read_dir().expect("a folder").any(|_| true), "nothing was started");

    let mut village = Village::closed(1, &[]);
    let denied = village.fails(&["run", "--on", "a", "--detach", "true"], 6);
    assert!(
        denied.message.contains("--allow-run") && denied.hint.contains("thorp up --allow-run"),
        "{denied:?}"
    );
    village.add("f", &["--allow-run", "--run-from", "10.99.0.0/16"]);
    village.add("p", &["--allow-run", "--run-programs", "true", "--run-programs", "/bin/false"]);
    village.settle();
    let denied = village.fails(&["run", "--on", "f", "--detach", "true"], 6);
    assert!(denied.hint.contains("run_from"), "{denied:?}");
    village.run(&["run", "--on", "p", "true"]).ended(0);
    // What is sent along does not make another program of it.
    let fake = village.path("true");
    fs::write(&fake, "#!/bin/sh\nexit 9\n").expect("a file");
    fs::set_permissions(&fake, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("permissions");
    village.run(&["run", "--on", "p", "--asset", "true", "--env", "PATH=.", "true"]).ended(0);
    let own = village.nodes.iter().find(|node| node.name == "a").expect("a node").id.clone();
    village.add("i", &["--allow-run", "--run-from", &own]);
    village.settle();
    let command = village.command(&village.data("a"), &["run", "--on", "i", "true"]);
    village.spawn(command, "with the node's own id").wait(s(30)).ended(0);
    village.fails(&["run", "--on", "i", "--detach", "true"], 6);
    village.run(&["run", "--on", "p", "/bin/false"]).ended(1);
    let denied = village.fails(&["run", "--on", "p", "--detach", "sh"], 6);
    assert!(denied.message.contains("`sh`") && denied.hint.contains("run_programs"), "{denied:?}");

    let other = village.path("other-key");
    fs::write(&other, village.run(&["key", "new"]).ended(0).bytes).expect("a file");
    private(&other);
    let mut command = village.command(&village.path("stranger"), &[]);
    command.env("THORP_TIMEOUT", "3s").args(["run", "--on", "p", "true"]);
    let command = with_key(command, &other);
    let stranger = village.spawn(command, "a stranger").wait(s(30)).ended(6);
    assert!(stranger.stderr.contains("key"), "{stranger}");
}

/// For its owner alone.
fn private(path: &Path) {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("permissions");
}

/// The same command with another key.
fn with_key(command: std::process::Command, key: &Path) -> std::process::Command {
    let mut other = std::process::Command::new(command.get_program());
    let mut is_key = false;
    for argument in command.get_args() {
        other.arg(if is_key { key.as_os_str() } else { argument });
        is_key = argument == "--key-file";
    }
    other.env_clear();
    other.envs(command.get_envs().filter_map(|(name, value)| value.map(|value| (name, value))));
    other
}

#[test]
fn a_folder_of_programs_may_be_named_from_where_the_node_was_started() {
    let village = Village::closed(2, &["--allow-run", "--run-folder", "works"]);
    let there = village.run(&["run", "--on", "b", "pwd"]).ended(0).text();
    assert!(Path::new(there.trim_end()).starts_with(village.path("works")), "{there}");
    village.run(&words(&script("printf '#!/bin/sh\\nexit 4\\n' > four; chmod +x four"))).ended(0);
    village.run(&["run", "--no-sync", "--on", "b", "./four"]).ended(4);
}

#[test]
fn on_all_machines_and_on_any() {
    let village = two();
    let ended =
        village.run(&["run", "--on", "all", "--", "sh", "-c", "echo here; printf end; exit 4"]).ended(4);
    let mut lines: Vec<String> = ended.text().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["a: end", "a: here", "b: end", "b: here"]);
    assert!(ended.stderr.contains("a: ended with 4") && ended.stderr.contains("b: ended with 4"), "{ended}");
    // `a` has something to do.
    let busy = village.json(&["run", "--on", "a", "--detach", "--", "sleep", "100"]);
    village.run(&["run", "--on", "any", "true"]).ended(0);
    let jobs = village.json(&["jobs", "b"]);
    assert!(jobs.as_array().expect("a list").iter().any(|job| job["command"] == "true"), "{jobs}");
    village.run(&["stop", busy["job"].as_str().expect("an id")]).ended(0);
}
