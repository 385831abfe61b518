//! `/api/openapi.json` is true: it has every route with its methods, every one of its operations is served, and what
//! real answers have is what its schemas say, key for key.
//!
//! `tests/openapi` asks more of a running node, with requests made from the document.

use crate::client::{Answer, Client};
use crate::process::{s, wait_until};
use crate::{client, village};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const METHODS: [&str; 6] = ["get", "head", "put", "post", "patch", "delete"];

/// The document as it is in the sources.
fn document() -> Value {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web/openapi.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Every operation: the path, its methods.
fn documented(document: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .map(|(path, methods)| (path.clone(), methods.as_object().unwrap().keys().cloned().collect()))
        .collect()
}

/// The methods that an expression like `get(a).put(b)` routes.
fn methods_in(expression: &str) -> BTreeSet<String> {
    let calls = |method: &&str| {
        let call = format!("{method}(");
        expression.match_indices(&call).any(|(at, _)| {
            !expression[..at]
                .ends_with(|letter: char| letter.is_ascii_alphanumeric() || "_:".contains(letter))
        })
    };
    METHODS.into_iter().filter(calls).map(str::to_owned).collect()
}

/// Routes in a source: what stands in `.route("PATH", METHODS)`. `METHODS` may be a variable of that source.
fn routes_in(source: &str, routes: &mut BTreeMap<String, BTreeSet<String>>) {
    for rest in source.split(".route(\"").skip(1) {
        let (path, rest) = rest.split_once('"').unwrap();
        let mut depth = 1;
        let end = rest.find(|letter: char| {
            depth += i32::from(letter == '(') - i32::from(letter == ')');
            depth == 0
        });
        let mut expression = rest[..end.unwrap()].trim_start_matches(',').trim();
        if !expression.contains('(') {
            let variable = format!("let {expression} = ");
            expression = source.split_once(&variable).unwrap().1.split_once(';').unwrap().0;
        }
        let methods = methods_in(expression);
        assert!(!methods.is_empty(), "{path}: no method in `{expression}`");
        assert!(routes.insert(path.to_owned(), methods).is_none(), "{path} twice");
    }
}

fn sources(folder: &Path, routes: &mut BTreeMap<String, BTreeSet<String>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, routes);
        } else if path.extension().is_some_and(|end| end == "rs") {
            routes_in(&fs::read_to_string(&path).unwrap(), routes);
        }
    }
}

#[test]
fn the_document_has_every_route() {
    let mut routes = BTreeMap::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web"), &mut routes);
    // What takes `/` too, the document writes as one parameter, or as what the links are made of.
    let written = |path: &str| path.replace("{*link}", "{token}/{filename}").replace("{*", "{");
    let routes: BTreeMap<_, _> =
        routes.into_iter().map(|(path, methods)| (written(&path), methods)).collect();
    assert_eq!(documented(&document()), routes);
}

#[test]
fn references_and_names_in_the_document_lead_somewhere() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id), "{id} twice");
            let none = Vec::new();
            let parameters = operation["parameters"].as_array().unwrap_or(&none);
            let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path");
            let said: BTreeSet<&str> = in_path.map(|parameter| parameter["name"].as_str().unwrap()).collect();
            let parts = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
            assert_eq!(said, parts.collect(), "{method} {path}");
        }
    }
    let mut left = vec![&document];
    while let Some(value) = left.pop() {
        if let Some(target) = value["$ref"].as_str() {
            assert!(document.pointer(&target[1..]).is_some(), "{target}");
        }
        left.extend(value.as_object().into_iter().flat_map(|object| object.values()));
        left.extend(value.as_array().into_iter().flatten());
    }
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
}

/// What is wrong with `value` by `schema`: keys that are missing or that the schema does not know, other types, words
/// that are none of an enumeration. Patterns and bounds are for `tests/openapi`.
fn wrong(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(target) = schema["$ref"].as_str() {
        return wrong(document, document.pointer(&target[1..]).unwrap(), value, at);
    }
    let mut found = Vec::new();
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let types = match &schema["type"] {
        Value::Null => Vec::new(),
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => vec![one.as_str().unwrap()],
    };
    if !types.is_empty() && !types.contains(&is) {
        found.push(format!("{at} is {is}, not {types:?}"));
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        found.push(format!("{at} is {value}"));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(wrong(document, &schema["items"], item, &format!("{at}[{index}]")));
    }
    let Some(properties) = schema["properties"].as_object() else { return found };
    let Some(object) = value.as_object() else { return found };
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    found.extend(
        required.filter(|key| !object.contains_key(*key)).map(|key| format!("{at}.{key} is missing")),
    );
    for (key, value) in object {
        match properties.get(key) {
            Some(schema) => found.extend(wrong(document, schema, value, &format!("{at}.{key}"))),
            None if schema["additionalProperties"] == true => {}
            None => found.push(format!("{at}.{key} is in no schema")),
        }
    }
    found
}

/// An answer is one that the document has for this operation: its status, its type, and what it holds.
#[track_caller]
fn check(document: &Value, method: &str, path: &str, answer: &Answer) {
    let operation = &document["paths"][path][method];
    let mut said = &operation["responses"][answer.status.to_string()];
    if let Some(target) = said["$ref"].as_str() {
        said = document.pointer(&target[1..]).unwrap();
    }
    assert!(said.is_object(), "{method} {path}: {} is not in the document", answer.shown());
    for (name, header) in said["headers"].as_object().into_iter().flatten() {
        let is_there = answer.header(&name.to_ascii_lowercase()).is_some();
        assert!(is_there || header["required"] != true, "{method} {path}: no {name}: {}", answer.shown());
    }
    let kind = answer.header("content-type").map(|kind| kind.split(';').next().unwrap());
    let Some(content) = said["content"].as_object() else {
        assert!(answer.body.is_empty(), "{method} {path}: {}", answer.shown());
        return;
    };
    let kind = kind.unwrap_or_else(|| panic!("{method} {path}: no type: {}", answer.shown()));
    let media = content.get(kind).or_else(|| content.get("*/*"));
    let media = media.unwrap_or_else(|| panic!("{method} {path}: {kind} is not in the document"));
    if kind == "application/json" && media["schema"]["format"] != "binary" && method != "head" {
        let found = wrong(document, &media["schema"], &answer.json(), "answer");
        assert!(found.is_empty(), "{method} {path}: {found:?}: {}", answer.shown());
    }
}

/// Asks, and holds the answer to the document.
struct Asker {
    document: Value,
    client: Client,
}

impl Asker {
    #[track_caller]
    fn ask(&self, status: u16, line: &str, asked: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let (method, path) = line.split_once(' ').unwrap();
        let answer = self.client.ask(&method.to_ascii_uppercase(), asked, headers, body).is(status);
        check(&self.document, method, path, &answer);
        answer
    }
}

#[test]
fn the_checker_finds_what_is_wrong() {
    let document = document();
    let schema = json!({"$ref": "#/components/schemas/Error"});
    let found = |value: Value| wrong(&document, &schema, &value, "answer");
    assert_eq!(found(json!({"error": {"code": "x", "message": "y", "hint": null}})), Vec::<String>::new());
    assert_eq!(found(json!({"error": {"code": "x", "message": "y"}})), ["answer.error.hint is missing"]);
    let more = json!({"error": {"code": "x", "message": "y", "hint": null, "more": 1}});
    assert_eq!(found(more), ["answer.error.more is in no schema"]);
    let other = json!({"error": {"code": 1, "message": "y", "hint": null}});
    assert_eq!(found(other), ["answer.error.code is integer, not [\"string\"]"]);
    let state = json!({"$ref": "#/components/schemas/Health"});
    assert_eq!(
        wrong(&document, &state, &json!({"status": "so so"}), "answer"),
        ["answer.status is \"so so\""]
    );
    assert_eq!(
        methods_in("get(channels::get).post(channels::post)"),
        ["get", "post"].map(str::to_owned).into()
    );
    assert_eq!(methods_in("delete(widget(1))"), ["delete".to_owned()].into());
}

#[test]
fn everything_in_the_document_is_served() {
    let village = village(1, &[]);
    let a = client(&village, "a");
    assert_eq!(a.get("/api/openapi.json").is(200).json(), document());
    let fill = |path: &str| {
        let names = [
            ("{name}", "no"),
            ("{id}", "0123456789abcdef"),
            ("{key}", "no"),
            ("{token}/{filename}", "no/no"),
        ];
        names.iter().fold(path.to_owned(), |path, (parameter, value)| path.replace(parameter, value))
    };
    for (path, methods) in documented(&document()) {
        let asked = fill(&path);
        for method in METHODS {
            if asked.ends_with("/events") && ["get", "head"].contains(&method) {
                // It never ends: `streams_are_what_the_document_says` reads from it.
                continue;
            }
            let answer = a.ask(&method.to_ascii_uppercase(), &asked, &[], b"");
            let is_said = methods.contains(method) || (method == "head" && methods.contains("get"));
            assert_eq!(answer.status != 405, is_said, "{method} {path}: {}", answer.shown());
            let is_fallback = String::from_utf8_lossy(&answer.body).contains("there is nothing here");
            assert!(!is_fallback, "{method} {path}: {}", answer.shown());
            if methods.contains(method) {
                check(&document(), method, &path, &answer);
            } else if method != "head" {
                let allowed = answer.header("allow").unwrap().to_ascii_lowercase();
                let allowed: BTreeSet<String> =
                    allowed.split(',').map(|word| word.trim().to_owned()).collect();
                let said = |method: &String| methods.contains(method) || method == "head";
                assert!(methods.is_subset(&allowed) && allowed.iter().all(said), "{path}: {allowed:?}");
            }
        }
    }
}

#[test]
fn answers_are_what_the_document_says() {
    let village = village(1, &[]);
    let a = Asker { document: document(), client: client(&village, "a") };
    for path in ["/api", "/api/status", "/healthz", "/metrics", "/api/openapi.json", "/api/files"] {
        a.ask(200, &format!("get {path}"), path, &[], b"");
    }
    a.ask(204, "post /api/session", "/api/session", &[], b"");
    a.ask(204, "delete /api/session", "/api/session", &[], b"");

    let (file, x) = ("/api/files/{name}", "/api/files/x.json?");
    a.ask(201, &format!("put {file}"), "/api/files/x.json?replicas=1", &[], b"{\"one\":1}");
    a.ask(200, &format!("put {file}"), "/api/files/x.json?replicas=1", &[], b"{}");
    a.ask(400, &format!("put {file}"), "/api/files/x.json?replicas=0", &[], b"{}");
    a.ask(409, &format!("put {file}"), "/api/files/x.json?overwrite=0", &[], b"{}");
    let got = a.ask(200, &format!("get {file}"), x, &[], b"");
    a.ask(206, &format!("get {file}"), x, &[("Range", "bytes=0-0")], b"");
    a.ask(416, &format!("get {file}"), x, &[("Range", "bytes=9-")], b"");
    a.ask(304, &format!("get {file}"), x, &[("If-None-Match", got.header("etag").unwrap())], b"");
    a.ask(412, &format!("get {file}"), x, &[("If-Match", "\"other\"")], b"");
    let as_json = [("Content-Type", "application/json")];
    a.ask(200, &format!("patch {file}"), x, &as_json, b"{\"replicas\":2}");
    a.ask(400, &format!("patch {file}"), x, &as_json, b"{\"replicas\":0}");
    a.ask(415, &format!("patch {file}"), x, &[], b"{\"replicas\":1}");
    a.ask(200, "get /api/files", "/api/files?sort=copies&order=desc", &[], b"");

    let shared = a.ask(200, "post /api/share/{name}", "/api/share/x.json?expires=1h", &[], b"").json();
    let link = shared["url"].as_str().unwrap().split_once(&a.client.address).unwrap().1.to_owned();
    a.ask(200, "get /s/{token}/{filename}", &link, &[], b"");
    a.ask(404, "get /s/{token}/{filename}", "/s/AAAA/x", &[], b"");

    a.ask(200, &format!("delete {file}"), x, &[], b"");
    a.ask(404, &format!("delete {file}"), x, &[], b"");
    a.ask(404, &format!("get {file}"), x, &[], b"");
    let removed = a.ask(200, "get /api/files", "/api/files?removed=1", &[], b"").json();
    assert!(removed["files"][0]["removed"].is_string(), "{removed}");
    a.ask(200, "post /api/restore/{name}", "/api/restore/x.json", &[], b"");
    a.ask(400, "get /api/files", "/api/files?limit=0", &[], b"");

    let (id, upload) = ("an-upload-of-the-tests-2", "/api/uploads/{id}");
    let part = [("Upload-Id", id), ("Content-Range", "bytes 0-0/2")];
    a.ask(202, &format!("put {file}"), "/api/files/parts", &part, b"1");
    a.ask(409, &format!("put {file}"), "/api/files/parts", &part, b"1");
    a.ask(204, &format!("head {upload}"), &format!("/api/uploads/{id}"), &[], b"");
    a.ask(204, &format!("delete {upload}"), &format!("/api/uploads/{id}"), &[], b"");
    a.ask(404, &format!("delete {upload}"), &format!("/api/uploads/{id}"), &[], b"");

    let (channel, k) = ("/api/channels/{key}", "/api/channels/k");
    let minute = [("X-Expire", "1m")];
    // A new proxy waits until everybody has had time to post again: 204 until then.
    let posted = wait_until(s(20), "the channel takes posts", || {
        let answer = a.client.ask("POST", k, &minute, b"{\"client_id\":\"ada\",\"x\":1}");
        check(&a.document, "post", channel, &answer);
        if answer.status == 200 { Ok(answer) } else { Err(answer.shown()) }
    });
    let token = posted.header("client-token").map(str::to_owned);
    a.ask(200, &format!("post {channel}"), k, &minute, b"{\"client_id\":\"ben\"}");
    a.ask(200, "get /api/channels", "/api/channels", &[], b"");
    let got = a.ask(200, &format!("get {channel}"), k, &[], b"");
    a.ask(304, &format!("get {channel}"), k, &[("If-None-Match", got.header("etag").unwrap())], b"");
    a.ask(400, &format!("post {channel}"), k, &[], b"[]");
    a.ask(415, &format!("post {channel}"), k, &[("Content-Type", "text/html")], b"{}");
    let leave = "delete /api/channels/{key}/clients/{id}";
    let shown: Vec<(&str, &str)> = token.iter().map(|token| ("Client-Token", token.as_str())).collect();
    a.ask(204, leave, "/api/channels/k/clients/ada", &shown, b"");
    a.ask(404, leave, "/api/channels/k/clients/eve", &[], b"");
}

#[test]
fn streams_are_what_the_document_says() {
    use std::io::{Read, Write};
    let village = village(1, &[]);
    let a = client(&village, "a");
    for (asked, path) in
        [("/api/events", "/api/events"), ("/api/channels/k/events", "/api/channels/{key}/events")]
    {
        let mut stream = a.connect();
        stream.write_all(a.head("GET", asked, &[]).as_bytes()).unwrap();
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        check(&document(), "get", path, &Answer::parse(&head).is(200));
    }
}
