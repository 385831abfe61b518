//! The documents, key by key.

use super::*;
use crate::types::{
    Body, ContentId, DiskId, DiskState, Dot, FileName, InstanceId, Lineage, MachineId, Pin, Presence, Term,
};
use crate::types::{NodeId, NodeRoute};
use crate::wire::message::{ClusterStatus, FileState, NodeState, NodeStatus, Row};

fn route(number: u8, name: &str) -> NodeRoute {
    NodeRoute {
        node: NodeId([number; 16]),
        name: name.into(),
        machine: MachineId::parse("box").expect("valid"),
        addresses: vec!["10.0.0.7:7667".parse().expect("valid"), "10.0.0.8:7667".parse().expect("valid")],
    }
}

fn presence(number: u8) -> Presence {
    Presence {
        node: NodeId([number; 16]),
        instance: InstanceId(1),
        generation: 1,
        sequence: 1,
        machine: MachineId::parse("box").expect("valid"),
        name: "attic".into(),
        tcp_port: 7667,
        http_port: 0,
        pin: Pin::Auto,
        storage: true,
        draining: false,
        term: Term::default(),
        proxy: None,
        disk: DiskId([0; 16]),
        disk_state: DiskState::Full,
        capacity_bytes: 30,
        used_bytes: 10,
        free_bytes: 20,
        contents: 4,
        inventory_digest: 0,
        catalog_digest: 31,
        lineage: vec![Lineage([2; 16])],
        established: true,
        wall_ms: 0,
        version: "0.1.0".into(),
    }
}

#[test]
fn status_has_the_promised_keys() {
    let status = ClusterStatus {
        lineage: Lineage([2; 16]),
        term: Term { number: 5, proxy: NodeId([1; 16]) },
        ready: true,
        nodes: vec![NodeStatus { presence: presence(1), route: route(1, "attic"), state: NodeState::Up }],
        others: vec![],
        files: 10,
        bytes: 99,
        states: [4, 3, 2, 1],
        letters: 3,
    };
    let expected = concat!(
        r#"{"cluster":{"name":"house","id":"02020202020202020202020202020202","secured":true,"term":5,"#,
        r#""proxy":"01010101010101010101010101010101"},"nodes":[{"id":"01010101010101010101010101010101","#,
        r#""name":"attic","machine":"box","addr":"10.0.0.7:7667","roles":["proxy","storage"],"state":"up","disk":"full","#,
        r#""capacity_bytes":30,"used_bytes":10,"free_bytes":20,"contents":4,"catalog":"000000000000001f","version":"0.1.0"}],"#,
        r#""files":{"count":10,"bytes":99,"ok":4,"healing":3,"degraded":2,"lost":1},"messages":{"waiting":3}}"#,
    );
    let document = StatusDocument::new("house", true, &status);
    assert_eq!(serde_json::to_string(&document).expect("encoded"), expected);
}

#[test]
fn a_row_has_the_promised_keys_and_names_its_holders() {
    let names = NodeNames::new(&[route(1, "b"), route(2, "a")]);
    let mut row = Row {
        name: FileName::parse("x/y").expect("valid"),
        body: Body::File { content: ContentId([3; 32]), size: 7 },
        mode: 0o644,
        modified_ns: 1_500_000_000,
        wanted: 3,
        holders: vec![NodeId([1; 16]), NodeId([2; 16])],
        state: FileState::Degraded,
        dot: Dot::default(),
        removed: None,
    };
    let content = "03".repeat(32);
    assert_eq!(
        serde_json::to_string(&FileRow::new(&row, &names)).expect("encoded"),
        format!(
            r#"{{"name":"x/y","bytes":7,"content":"{content}","replicas_wanted":3,"replicas":2,"nodes":["a","b"],"state":"degraded","modified":"1970-01-01T00:00:01Z"}}"#
        )
    );
    row.body = Body::Folder;
    row.holders = vec![NodeId([9; 16])];
    let folder = FileRow::new(&row, &names);
    assert_eq!((folder.bytes, folder.content, folder.nodes), (0, None, vec!["09".repeat(16)]));
}

#[test]
fn put_and_get_have_the_promised_keys() {
    let put = PutDocument {
        files: vec![PutFile {
            name: "a".into(),
            bytes: 1,
            content: Some("c".into()),
            replicas_wanted: 2,
            replicas: 1,
            nodes: vec!["n".into()],
            sent_bytes: 1,
            reused_bytes: 0,
        }],
        seconds: 0.5,
    };
    assert_eq!(
        serde_json::to_string(&put).expect("encoded"),
        concat!(
            r#"{"files":[{"name":"a","bytes":1,"content":"c","replicas_wanted":2,"replicas":1,"nodes":["n"],"#,
            r#""sent_bytes":1,"reused_bytes":0}],"seconds":0.5}"#,
        )
    );
    let get = GetDocument {
        files: vec![GetFile {
            name: "a".into(),
            path: "./a".into(),
            bytes: 1,
            content: Some("c".into()),
            from: vec![GetSource { node: "n".into(), bytes: 1 }],
        }],
        seconds: 2.0,
    };
    assert_eq!(
        serde_json::to_string(&get).expect("encoded"),
        concat!(
            r#"{"files":[{"name":"a","path":"./a","bytes":1,"content":"c","from":[{"node":"n","bytes":1}]}],"#,
            r#""seconds":2.0}"#,
        )
    );
}

#[test]
fn verify_has_the_promised_keys() {
    let copy = BadCopyPart { name: "a".into(), node: "n".into() };
    let unchecked = vec![UncheckedPart { name: "b".into(), node: "m".into(), why: "gone".into() }];
    let verify = VerifyDocument { checked: 5, bad: vec![copy], mended: 1, unchecked, lost: vec!["c".into()] };
    assert_eq!(
        serde_json::to_string(&verify).expect("encoded"),
        concat!(
            r#"{"checked":5,"bad":[{"name":"a","node":"n"}],"mended":1,"#,
            r#""unchecked":[{"name":"b","node":"m","why":"gone"}],"lost":["c"]}"#,
        )
    );
}

#[test]
fn an_error_without_a_hint_says_null() {
    let error = ErrorDocument { error: ErrorBody { code: "not_found", message: "no `x`", hint: None } };
    assert_eq!(
        serde_json::to_string(&error).expect("encoded"),
        r#"{"error":{"code":"not_found","message":"no `x`","hint":null}}"#
    );
}
