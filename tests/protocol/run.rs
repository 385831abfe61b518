//! Programs run for others: one value of everything that has bytes, any value, and what must be refused.

use crate::document::Part;
use crate::examples::Example;
use crate::generators::{number, text};
use crate::samples::{Sample, around, sample};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use thorp::types::{JobId, WorkspaceName};
use thorp::wire::message::ErrorCode;
use thorp::wire::run::{
    Bytes, Denial, EntryKind, JobEnd, JobRow, JobSignal, OutputStream, RECORD_HEAD_BYTES, RunFrame, Start,
    TerminalSize, read_record_head, record_head,
};
use thorp::wire::{DecodeError, decode, encode};

const JOB: JobId = JobId([0x3c, 0x41, 0x7f, 0xe0]);
const SIZE: TerminalSize = TerminalSize { rows: 24, columns: 80 };

fn bytes(text: &str) -> Bytes {
    text.as_bytes().into()
}

fn workspace() -> WorkspaceName {
    WorkspaceName::derive("game", 0x9f02_11ab)
}

// ---- samples ----

fn start() -> Sample<Start> {
    sample!(Start {
        job: JOB,
        workspace: workspace(),
        program: bytes("./game"),
        arguments: vec![bytes("--level"), bytes("3")],
        environment: vec![(bytes("RUST_LOG"), bytes("info"))],
        base_environment: false,
        terminal: None::<TerminalSize>,
        input: true,
        detach: false,
        linger_ms: 10_000_u64,
        user: Box::<str>::from("ada@attic"),
    })
}

pub fn terminal_size() -> Sample<TerminalSize> {
    sample!(TerminalSize { rows: 24_u16, columns: 80_u16 })
}

pub fn row() -> Sample<JobRow> {
    sample!(JobRow {
        job: JOB,
        command: Box::<str>::from("./game --level 3"),
        workspace: workspace(),
        user: Box::<str>::from("ada@attic"),
        from: Box::<str>::from("192.168.1.20"),
        started_ms: 1_750_000_000_000_u64,
        ended_ms: 1_750_000_004_000_u64,
        end: Some(JobEnd::Exited(3)),
        sessions: 0_u32,
        detached: false,
    })
}

pub fn ends() -> Vec<Sample<JobEnd>> {
    let named = |name: &str, bytes: Vec<u8>| -> Part { (name.to_owned(), bytes) };
    let why: Box<str> = "No such file or directory".into();
    let not_started = vec![named("number", encode(&2_i32)), named("words", encode(&why))];
    vec![
        Sample::new("JobEnd::Exited", JobEnd::Exited(3), vec![named("code", encode(&3_u8))]),
        Sample::new("JobEnd::Signalled", JobEnd::Signalled(15), vec![named("signal", encode(&15_u8))]),
        Sample::new("JobEnd::NotStarted", JobEnd::NotStarted(2, why), not_started),
        sample!(JobEnd::Lost {}),
    ]
}

pub fn frames() -> Vec<Sample<RunFrame>> {
    vec![
        around("RunFrame::Start", start(), |start| RunFrame::Start(Box::new(start))),
        sample!(RunFrame::Attach { job: JOB, output_from: Some(65_536_u64), input: true }),
        sample!(RunFrame::Attached {
            job: JOB,
            output_from: 65_536_u64,
            output_upto: 70_000_u64,
            input_upto: 12_u64,
            input: true,
            terminal: false,
        }),
        sample!(RunFrame::Output { stream: OutputStream::Errors, from: 65_536_u64 }),
        sample!(RunFrame::OutputTaken { upto: 70_000_u64 }),
        sample!(RunFrame::OutputClosed { stream: OutputStream::Output }),
        sample!(RunFrame::Input { from: 12_u64 }),
        sample!(RunFrame::InputEnd { upto: 17_u64 }),
        sample!(RunFrame::InputTaken { upto: 17_u64 }),
        sample!(RunFrame::Signal { signal: JobSignal::Interrupt }),
        sample!(RunFrame::Resize { size: SIZE }),
        sample!(RunFrame::Ended { end: JobEnd::Signalled(2), output_upto: 70_000_u64 }),
        sample!(RunFrame::Working {}),
        sample!(RunFrame::Denied { why: Denial::NotProgram("./game".into()) }),
        sample!(RunFrame::Failed {
            code: ErrorCode::NotFound,
            message: Box::<str>::from("there is no job `3c417fe0`"),
        }),
        sample!(RunFrame::List {}),
        sample!(RunFrame::Jobs { jobs: vec![row().value] }),
        sample!(RunFrame::Stop { job: JOB }),
        sample!(RunFrame::Stopping {}),
        sample!(RunFrame::Ask {}),
        sample!(RunFrame::Idle { jobs: 1_u32, load_milli: 375_u32 }),
        sample!(RunFrame::Collect { workspace: workspace(), path: bytes("out/report.txt") }),
        sample!(RunFrame::Entry {
            path: bytes("out/report.txt"),
            kind: EntryKind::File,
            mode: 0o644_u16,
            modified_ns: 1_700_000_000_000_000_000_i64,
        }),
        sample!(RunFrame::Data { last: true }),
        sample!(RunFrame::Collected {}),
    ]
}

pub const STREAMS: [OutputStream; 2] = [OutputStream::Output, OutputStream::Errors];

pub const SIGNALS: [JobSignal; 9] = [
    JobSignal::Interrupt,
    JobSignal::Terminate,
    JobSignal::Kill,
    JobSignal::Hangup,
    JobSignal::Quit,
    JobSignal::User1,
    JobSignal::User2,
    JobSignal::Suspend,
    JobSignal::Continue,
];

pub fn denials() -> [Denial; 4] {
    [Denial::Open, Denial::NotAllowed, Denial::NotFrom, Denial::NotProgram("./game".into())]
}

pub fn kinds() -> [EntryKind; 3] {
    [EntryKind::File, EntryKind::Folder, EntryKind::Symlink { target: bytes("latest") }]
}

/// A run of bytes as it is kept of a job's output.
pub fn output_record() -> Example {
    let (payload, stream) = (b"oops\n", OutputStream::Errors);
    let head = record_head(stream, 5);
    let parts: Vec<Part> = vec![
        ("stream".into(), head[..1].to_vec()),
        ("length".into(), head[1..].to_vec()),
        ("bytes".into(), payload.to_vec()),
    ];
    let read = move |bytes: &[u8]| {
        let short = || DecodeError::Malformed("short".into());
        let (head, rest) = bytes.split_first_chunk::<RECORD_HEAD_BYTES>().ok_or_else(short)?;
        let (of, length) = read_record_head(*head).ok_or_else(short)?;
        if rest.len() as u64 != u64::from(length) {
            return Err(short());
        }
        Ok(of == stream && rest == payload)
    };
    Example { name: "job-output".into(), parts, read: Some(Box::new(read)) }
}

// ---- generators ----

fn any_job() -> impl Strategy<Value = JobId> {
    any::<[u8; 4]>().prop_map(JobId)
}

fn any_workspace() -> impl Strategy<Value = WorkspaceName> {
    "[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}".prop_map(|text| WorkspaceName::parse(&text).expect("a name"))
}

fn any_bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..30).prop_map(Into::into)
}

fn any_size() -> impl Strategy<Value = TerminalSize> {
    any::<(u16, u16)>().prop_map(|(rows, columns)| TerminalSize { rows, columns })
}

fn any_stream() -> impl Strategy<Value = OutputStream> {
    prop::sample::select(STREAMS.to_vec())
}

fn any_end() -> impl Strategy<Value = JobEnd> {
    prop_oneof![
        any::<u8>().prop_map(JobEnd::Exited),
        any::<u8>().prop_map(JobEnd::Signalled),
        (any::<i32>(), text()).prop_map(|(number, why)| JobEnd::NotStarted(number, why)),
        Just(JobEnd::Lost),
    ]
}

fn any_start() -> impl Strategy<Value = Start> {
    let what = (any_job(), any_workspace(), any_bytes(), vec(any_bytes(), 0..4));
    let how = (vec((any_bytes(), any_bytes()), 0..4), any::<[bool; 3]>(), option::of(any_size()));
    (what, how, number(), text()).prop_map(|(what, how, linger_ms, user)| {
        let (job, workspace, program, arguments) = what;
        let (environment, [base_environment, input, detach], terminal) = how;
        Start {
            job,
            workspace,
            program,
            arguments,
            environment,
            base_environment,
            terminal,
            input,
            detach,
            linger_ms,
            user,
        }
    })
}

fn any_row() -> impl Strategy<Value = JobRow> {
    let who = (any_job(), text(), any_workspace(), text(), text());
    let when = (number(), number(), option::of(any_end()));
    (who, when, any::<u32>(), any::<bool>()).prop_map(|(who, when, sessions, detached)| {
        let ((job, command, workspace, user, from), (started_ms, ended_ms, end)) = (who, when);
        JobRow { job, command, workspace, user, from, started_ms, ended_ms, end, sessions, detached }
    })
}

fn any_entry() -> impl Strategy<Value = RunFrame> {
    let target = any_bytes().prop_map(|target| EntryKind::Symlink { target });
    let kind = prop_oneof![Just(EntryKind::File), Just(EntryKind::Folder), target];
    (any_bytes(), kind, any::<u16>(), any::<i64>())
        .prop_map(|(path, kind, mode, modified_ns)| RunFrame::Entry { path, kind, mode, modified_ns })
}

fn any_of_a_session() -> impl Strategy<Value = RunFrame> {
    prop_oneof![
        any_start().prop_map(|start| RunFrame::Start(Box::new(start))),
        (any_job(), option::of(number()), any::<bool>())
            .prop_map(|(job, output_from, input)| RunFrame::Attach { job, output_from, input }),
        (any_job(), [number(), number(), number()], any::<[bool; 2]>()).prop_map(
            |(job, [output_from, output_upto, input_upto], [input, terminal])| RunFrame::Attached {
                job,
                output_from,
                output_upto,
                input_upto,
                input,
                terminal
            }
        ),
        (any_stream(), number()).prop_map(|(stream, from)| RunFrame::Output { stream, from }),
        number().prop_map(|upto| RunFrame::OutputTaken { upto }),
        any_stream().prop_map(|stream| RunFrame::OutputClosed { stream }),
        number().prop_map(|from| RunFrame::Input { from }),
        number().prop_map(|upto| RunFrame::InputEnd { upto }),
        number().prop_map(|upto| RunFrame::InputTaken { upto }),
        prop::sample::select(SIGNALS.to_vec()).prop_map(|signal| RunFrame::Signal { signal }),
        any_size().prop_map(|size| RunFrame::Resize { size }),
        (any_end(), number()).prop_map(|(end, output_upto)| RunFrame::Ended { end, output_upto }),
    ]
}

pub fn any_frame() -> impl Strategy<Value = RunFrame> {
    let why = prop_oneof![prop::sample::select(denials().to_vec()), text().prop_map(Denial::NotProgram)];
    prop_oneof![
        3 => any_of_a_session(),
        1 => prop::sample::select(vec![
            RunFrame::Working,
            RunFrame::List,
            RunFrame::Stopping,
            RunFrame::Ask,
            RunFrame::Collected,
        ]),
        1 => why.prop_map(|why| RunFrame::Denied { why }),
        1 => text().prop_map(|message| RunFrame::Failed { code: ErrorCode::Disk, message }),
        1 => vec(any_row(), 0..4).prop_map(|jobs| RunFrame::Jobs { jobs }),
        1 => any_job().prop_map(|job| RunFrame::Stop { job }),
        1 => any::<(u32, u32)>().prop_map(|(jobs, load_milli)| RunFrame::Idle { jobs, load_milli }),
        1 => (any_workspace(), any_bytes())
            .prop_map(|(workspace, path)| RunFrame::Collect { workspace, path }),
        1 => any_entry(),
        1 => any::<bool>().prop_map(|last| RunFrame::Data { last }),
    ]
}

// ---- what must be refused ----

/// Bytes before a length that lies.
pub fn heads() -> Vec<(&'static str, Vec<u8>)> {
    let (job, workspace) = (encode(&JOB), encode(&workspace()));
    let of = |tag: u8, rest: &[&[u8]]| [&[tag], rest.concat().as_slice()].concat();
    vec![
        ("run: a workspace", of(0, &[&job])),
        ("run: a program", of(0, &[&job, &workspace])),
        ("run: arguments", of(0, &[&job, &workspace, &[1, b'p']])),
        ("run: an argument", of(0, &[&job, &workspace, &[1, b'p', 1]])),
        ("run: variables", of(0, &[&job, &workspace, &[1, b'p', 0]])),
        ("run: a variable's value", of(0, &[&job, &workspace, &[1, b'p', 0, 1, 1, b'n']])),
        ("run: an end's words", vec![11, 2, 4]),
        ("run: a program that is denied", vec![13, 3]),
        ("run: jobs", vec![16]),
        ("run: a job's command", of(16, &[&[1], &job])),
        ("run: a path", of(21, &[&workspace])),
        ("run: an entry", vec![22]),
        ("run: a link's target", vec![22, 1, b'l', 2]),
    ]
}

#[test]
fn names_of_workspaces_keep_their_rules() {
    let collect = |name: &str| decode::<RunFrame>(&[vec![21], encode(&name), vec![1, b'x']].concat()).is_ok();
    assert!(collect("game-9f0211ab") && collect("_.") && collect(&"x".repeat(WorkspaceName::BYTES_MAX)));
    for name in ["", ".", "..", "../x", "a/b", ".hidden", "a b", "ä", "a\0", &"x".repeat(65)] {
        assert!(!collect(name), "{name:?}");
    }
}

#[test]
fn numbers_that_mean_nothing_are_refused() {
    let refused = |bytes: &[u8]| decode::<RunFrame>(bytes).is_err();
    assert!(refused(&[25]) && !refused(&[24]), "a frame");
    assert!(refused(&[3, 2, 0]) && !refused(&[3, 1, 0]), "a stream");
    assert!(refused(&[9, 9]) && !refused(&[9, 8]), "a signal");
    assert!(refused(&[11, 4, 0]) && !refused(&[11, 3, 0]), "an end");
    assert!(refused(&[13, 4]) && !refused(&[13, 2]), "a denial");
    assert!(refused(&[22, 1, b'x', 3, 0, 0]) && !refused(&[22, 1, b'x', 1, 0, 0]), "a kind of entry");
    assert!(refused(&[23, 2]) && !refused(&[23, 1]), "a flag");
    assert!(read_record_head([2, 0, 0, 0, 0]).is_none() && read_record_head([1, 0, 0, 0, 0]).is_some());
}
