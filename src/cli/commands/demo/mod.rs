//! `thorp demo`: the main job on one machine, for somebody who has never heard of thorp.
//!
//! Invariant: every line says what was seen, not what should be: copies are counted on the disks of
//! the nodes, and bytes are compared. It ends with 0 only if all of it held.

mod nodes;

use crate::cli::Context;
use crate::cli::arguments::DemoArguments;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::json::{DemoDocument, DemoStep};
use crate::cli::printer::{Printer, Style};
use crate::cli::session::{failure_of, runtime};
use crate::cli::units::{format_bytes, format_duration};
use crate::client::get::{GetItem, Listed, get};
use crate::client::put::{PutItem, PutKind, put};
use crate::client::{Access, Session};
use crate::clock::{self, Moment, Rng};
use crate::identity::ClusterSecret;
use crate::limits::INLINE_BYTES_MAX;
use crate::transfer::Progress;
use crate::types::{FileName, MachineId};
use crate::wire::message::{ClusterStatus, NodeState, Reply, Request, Selector};
use nodes::{DemoNode, Plan};
use std::fs;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Size of the file that is made when none is given.
const FILE_BYTES: usize = 64 << 20;
/// How long a step may take before it counts as failed.
const STEP_LIMIT: Duration = Duration::from_secs(30);
/// How often it is looked whether a step is done.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Copies at first.
const COPIES: u8 = 3;

/// Runs the demo.
///
/// # Errors
/// At the first step that did not hold.
pub fn run(context: &Context, arguments: &DemoArguments) -> Result<Outcome, Failure> {
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())
            .map_err(|error| Failure::failed(format!("signals cannot be heard: {error}")))?;
        tokio::select! {
            ended = play(context, arguments) => ended,
            _ = tokio::signal::ctrl_c() => Err(Failure::failed("the demo was interrupted")),
            _ = terminate.recv() => Err(Failure::failed("the demo was interrupted")),
        }
    });
    runtime.shutdown_background();
    ended
}

async fn play(context: &Context, arguments: &DemoArguments) -> Result<Outcome, Failure> {
    let folder = tempfile::Builder::new().prefix("thorp-demo-").tempdir().map_err(|error| refuse(&error))?;
    let path = folder.path().to_owned();
    let ended = Demo::new(context, arguments, &path)?.play(arguments).await;
    if arguments.keep {
        let kept = folder.keep();
        context.printer.note(format_args!("the demo's folder is {}", kept.display()));
    }
    ended
}

fn refuse(error: &std::io::Error) -> Failure {
    Failure::failed(format!("the demo's folder cannot be used: {error}"))
        .hint("`TMPDIR` says where temporary folders are made")
}

struct Demo<'context> {
    printer: &'context Printer,
    plan: Plan,
    nodes: Vec<DemoNode>,
    session: Session,
    file: PathBuf,
    name: FileName,
    bytes: u64,
    began: Moment,
    steps: Vec<DemoStep>,
}

impl<'context> Demo<'context> {
    fn new(context: &'context Context, arguments: &DemoArguments, folder: &Path) -> Result<Self, Failure> {
        let seed = u64::from_le_bytes(clock::entropy().map_err(|error| refuse(&error))?);
        let plan = Plan {
            program: std::env::current_exe().map_err(|error| refuse(&error))?,
            folder: folder.to_owned(),
            cluster: format!("demo-{seed:016x}"),
            port: context.settings.port,
            heal_after: "3s",
        };
        fs::write(folder.join("config.toml"), "").map_err(|error| refuse(&error))?;
        let (file, name) = match &arguments.file {
            Some(file) => {
                let part = file.file_name().and_then(|part| part.to_str()).unwrap_or("your-file");
                (file.clone(), FileName::parse(part))
            }
            None => {
                (made_file(folder, seed).map_err(|error| refuse(&error))?, FileName::parse("holiday.mp4"))
            }
        };
        let name = name.map_err(|error| Failure::failed(format!("the file cannot be stored: {error}")))?;
        let data = fs::metadata(&file).map_err(|error| Failure::local_file("read", &file, &error))?;
        if !data.is_file() {
            return Err(Failure::usage(format!("`{}` is not a file", file.display())));
        }
        let access = Access {
            data_dir: folder.join("client"),
            cluster: plan.cluster.clone(),
            secret: ClusterSecret::Open,
            bind: Some(Ipv4Addr::LOCALHOST),
            port: plan.port,
            peers: Vec::new(),
            timeout: STEP_LIMIT,
            machine: MachineId::parse("demo-client").unwrap_or_else(|| unreachable!("a valid label")),
        };
        let session = Session::new(access).map_err(failure_of)?;
        let (printer, bytes) = (&*context.printer, data.len());
        let (nodes, began) = (Vec::new(), clock::now());
        Ok(Demo { printer, plan, nodes, session, file, name, bytes, began, steps: Vec::new() })
    }

    async fn play(mut self, arguments: &DemoArguments) -> Result<Outcome, Failure> {
        self.printer.line(format_args!(
            "{} nodes, each a process of its own that plays a machine of a LAN, and one file of {}.",
            arguments.nodes,
            format_bytes(self.bytes)
        ));
        self.printer.line("");
        self.start_all(arguments.nodes).await?;
        self.put_file().await?;
        self.list().await?;
        let holder = self.kill_a_holder().await?;
        let proxy = self.kill_the_proxy().await?;
        self.bring_back(&[holder, proxy]).await?;
        self.change_count(arguments.nodes).await?;
        self.change_count(2).await?;
        self.get_back().await?;
        let took = clock::now().since(self.began);
        let document = DemoDocument { steps: self.steps, seconds: Duration::from_millis(took).as_secs_f64() };
        self.printer.result(&document, |printer| {
            printer.line("");
            let done = printer.paint(Style::Good, "All of it held");
            let took = format_duration(Duration::from_millis(took));
            printer.line(format_args!(
                "{done}, in {took}. On real machines: `thorp up` on each, then `thorp put`."
            ));
        });
        Ok(Outcome::Done)
    }

    /// Tells a step that held, with the time since `from`.
    fn held(&mut self, from: Moment, text: String) {
        let seconds = Duration::from_millis(clock::now().since(from)).as_secs_f64();
        self.printer.line(format_args!("{} {text} ({seconds:.1} s)", self.printer.paint(Style::Good, "ok")));
        self.steps.push(DemoStep { what: text, seconds });
    }

    async fn start_all(&mut self, count: u8) -> Result<(), Failure> {
        let from = clock::now();
        for number in 1..=count {
            let node = self.plan.start(&format!("h{number}"))?;
            self.nodes.push(node);
        }
        let all = usize::from(count);
        let status = self.until("one proxy for all nodes", async |demo| {
            let status = demo.status().await?;
            Ok((status.ready && up(&status) == all).then_some(status))
        });
        let proxy = proxy_of(&*status.await?);
        self.held(
            from,
            format!("{count} nodes found each other, and {proxy} was made the proxy that directs them"),
        );
        Ok(())
    }

    async fn put_file(&mut self) -> Result<(), Failure> {
        let from = clock::now();
        let what = PutKind::File { path: self.file.clone(), size: self.bytes };
        let item = PutItem { name: self.name.clone(), what, mode: 0o644, modified_ns: 0 };
        let nothing: Arc<dyn Progress> = Arc::new(|_: u64| ());
        let (mut report, ended) = put(&self.session, vec![item], COPIES, nothing).await;
        ended.map_err(failure_of)?;
        let Some(done) = report.done.pop() else {
            return Err(Failure::local_file(
                "read",
                &self.file,
                &std::io::Error::other("it could not be read"),
            ));
        };
        if done.holders.len() != usize::from(COPIES) {
            return Err(Failure::failed(format!(
                "{} copies were made instead of {COPIES}",
                done.holders.len()
            )));
        }
        let holders = done.holders.join(", ");
        self.held(from, format!("put {} in {COPIES} copies, synced to the disks of {holders}", self.name));
        Ok(())
    }

    async fn list(&mut self) -> Result<(), Failure> {
        let from = clock::now();
        let listed = self.row().await?;
        let (name, holders) = (&listed.row.name, names(&listed));
        let text = format!("listed: {name}, {}, copies on {holders}", format_bytes(self.bytes));
        self.held(from, text);
        Ok(())
    }

    async fn kill_a_holder(&mut self) -> Result<String, Failure> {
        let listed = self.row().await?;
        let proxy = proxy_of(&*self.status().await?);
        let holders: Vec<String> = listed.holders.iter().map(|route| route.name.to_string()).collect();
        let Some(victim) = holders.into_iter().find(|holder| *holder != proxy) else {
            return Err(Failure::failed("no node but the proxy has a copy"));
        };
        let from = clock::now();
        self.kill(&victim);
        let gone = victim.clone();
        let listed = self.until("a new third copy", async |demo| {
            let listed = demo.row().await?;
            let holders = &listed.holders;
            let mended =
                holders.len() == usize::from(COPIES) && holders.iter().all(|route| *route.name != *gone);
            Ok(mended.then_some(listed))
        });
        let holders = names(&listed.await?);
        let patience = self.plan.heal_after;
        self.held(
            from,
            format!("killed {victim}, which had a copy: after {patience} of silence a new one was made; now on {holders}"),
        );
        Ok(victim)
    }

    async fn kill_the_proxy(&mut self) -> Result<String, Failure> {
        let old = proxy_of(&*self.status().await?);
        let from = clock::now();
        self.kill(&old);
        let gone = old.clone();
        let listed = self.until("another proxy that knows the file", async |demo| {
            let status = demo.status().await?;
            if !status.ready || proxy_of(&status) == gone {
                return Ok(None);
            }
            Ok(demo.row().await.ok())
        });
        let listed = listed.await?;
        let new = proxy_of(&*self.status().await?);
        let text = format!("killed the proxy {old}: {new} took over and still lists {}", listed.row.name);
        self.held(from, text);
        Ok(old)
    }

    async fn bring_back(&mut self, names: &[String]) -> Result<(), Failure> {
        let from = clock::now();
        for name in names {
            let started = self.plan.start(name)?;
            if let Some(node) = self.nodes.iter_mut().find(|node| node.name == *name) {
                *node = started;
            }
        }
        let all = self.nodes.len();
        self.until("all nodes up", async |demo| Ok((up(&*demo.status().await?) == all).then_some(())))
            .await?;
        self.held(from, format!("started {} again: they are part of it as before", names.join(" and ")));
        Ok(())
    }

    async fn change_count(&mut self, count: u8) -> Result<(), Failure> {
        let from = clock::now();
        let request = Request::SetReplicas { name: self.name.clone(), replicas: count };
        self.session.ask(&request).await.map_err(failure_of)?;
        let wanted = usize::from(count);
        let listed = self.until("the new number of copies", async |demo| {
            let listed = demo.row().await?;
            let there = listed.row.holders.len() == wanted
                && demo.copies_on_disks().is_none_or(|seen| seen == wanted);
            Ok(there.then_some(listed))
        });
        let holders = names(&listed.await?);
        self.held(from, format!("asked for {count} copies: counted {count}, on the disks of {holders}"));
        Ok(())
    }

    async fn get_back(&mut self) -> Result<(), Failure> {
        let from = clock::now();
        let listed = self.row().await?;
        let path = self.plan.folder.join("got-back");
        let item = GetItem { listed, path: path.clone(), root: self.plan.folder.clone() };
        let nothing: Arc<dyn Progress> = Arc::new(|_: u64| ());
        let report = get(&self.session, vec![item], false, nothing).await;
        if let Some((_, error)) = report.failed.into_iter().next() {
            return Err(failure_of(error));
        }
        if !same_bytes(&self.file, &path).map_err(|error| refuse(&error))? {
            return Err(Failure::failed("the file came back with other bytes"));
        }
        let sources: Vec<String> =
            report.done.iter().flat_map(|done| &done.from).map(|(node, _)| node.clone()).collect();
        self.held(
            from,
            format!("got it back from {} at once: every byte is the same", sources.join(" and ")),
        );
        Ok(())
    }

    fn kill(&mut self, name: &str) {
        if let Some(node) = self.nodes.iter_mut().find(|node| node.name == name) {
            node.kill();
        }
    }

    async fn status(&mut self) -> Result<Box<ClusterStatus>, Failure> {
        match self.session.ask(&Request::Status).await.map_err(failure_of)? {
            Reply::Status(status) => Ok(status),
            _ => Err(Failure::failed("the proxy gave an answer that makes no sense")),
        }
    }

    async fn row(&mut self) -> Result<Listed, Failure> {
        let rows = self.session.list(&Selector::Name(self.name.clone())).await.map_err(failure_of)?;
        rows.into_iter().next().ok_or_else(|| Failure::failed("the file is not listed"))
    }

    /// Looks into the folders of the nodes that run. A small content is kept in the database, where
    /// it cannot be seen from outside.
    fn copies_on_disks(&self) -> Option<usize> {
        if self.bytes <= INLINE_BYTES_MAX {
            return None;
        }
        let up = self.nodes.iter().filter(|node| node.is_up());
        Some(
            up.filter(|node| holds_bytes(&self.plan.data_dir(&node.name).join("contents"), self.bytes))
                .count(),
        )
    }

    async fn until<T>(
        &mut self,
        what: &str,
        mut look: impl AsyncFnMut(&mut Self) -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        let from = clock::now();
        let limit = u64::try_from(STEP_LIMIT.as_millis()).unwrap_or(u64::MAX);
        let progress = self.printer.wait_progress(&format!("waiting for {what}"));
        let mut last = None;
        while clock::now().since(from) < limit {
            match look(self).await {
                Ok(Some(seen)) => {
                    drop(progress);
                    return Ok(seen);
                }
                Ok(None) => {}
                Err(failure) => last = Some(failure),
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        let why = last.map_or_else(String::new, |failure| format!(": {failure}"));
        Err(Failure::failed(format!("waited {} s in vain for {what}{why}", STEP_LIMIT.as_secs())))
    }
}

fn up(status: &ClusterStatus) -> usize {
    status.nodes.iter().filter(|node| node.state == NodeState::Up).count()
}

/// The display name of the proxy.
fn proxy_of(status: &ClusterStatus) -> String {
    let node = status.term.proxy;
    let known = status.nodes.iter().find(|known| known.presence.node == node);
    known.map_or_else(|| node.to_string(), |known| known.presence.name.to_string())
}

fn names(listed: &Listed) -> String {
    let mut names: Vec<&str> = listed.holders.iter().map(|route| &*route.name).collect();
    names.sort_unstable();
    names.join(", ")
}

/// Whether a folder of contents has a file of this size.
fn holds_bytes(contents: &Path, bytes: u64) -> bool {
    let folders = fs::read_dir(contents).into_iter().flatten().flatten();
    let files = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten());
    files.into_iter().any(|file| file.metadata().is_ok_and(|data| data.len() == bytes))
}

fn made_file(folder: &Path, seed: u64) -> std::io::Result<PathBuf> {
    let path = folder.join("made-file");
    let mut file = fs::File::create(&path)?;
    let (mut rng, mut block) = (Rng::seeded(seed), vec![0; 1 << 20]);
    for _ in 0..FILE_BYTES / block.len() {
        rng.fill(&mut block);
        file.write_all(&block)?;
    }
    Ok(path)
}

fn same_bytes(a: &Path, b: &Path) -> std::io::Result<bool> {
    let (mut a, mut b) = (fs::File::open(a)?, fs::File::open(b)?);
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let count = a.read(&mut left)?;
        if count == 0 {
            return Ok(b.read(&mut right)? == 0);
        }
        b.read_exact(&mut right[..count])?;
        if left[..count] != right[..count] {
            return Ok(false);
        }
    }
}
