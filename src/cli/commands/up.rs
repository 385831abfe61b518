//! `thorp up`: runs a node in the foreground.

use crate::cli::Context;
use crate::cli::arguments::UpArguments;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::json::ReadyDocument;
use crate::cli::session::{access, bind, peers, runtime, secret};
use crate::cli::units::format_bytes;
use crate::client::Access;
use crate::config::{Http, Settings, host_name};
use crate::discovery::socket::interfaces;
use crate::documents::chain;
use crate::messages;
use crate::node::{Node, NodeError, Options, RunOptions};
use crate::roles::machine::machine_id;
use crate::store::Store;
use crate::types::MachineId;
use crate::web::guard::Host;
use crate::web::{self, Place, Server};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Runs a node until SIGINT or SIGTERM; a second signal ends it at once.
///
/// # Errors
/// When the data folder, the keys or the ports cannot be used.
pub fn run(context: &Context, arguments: &UpArguments) -> Result<Outcome, Failure> {
    keep_memory_small();
    let settings = &context.settings;
    let machine = settings.node.machine.as_ref().map(MachineId::as_str);
    let server = Serving::new(settings)?;
    let options = Options {
        http_port: 0,
        data_dir: settings.data_dir.clone(),
        cluster: settings.cluster.to_string(),
        secret: secret(settings)?,
        bind: bind(settings)?,
        port: settings.port,
        peers: peers(settings),
        pin: settings.node.role,
        name: settings.node.name.to_string(),
        machine: machine_id(machine).map_err(|error| Failure::failed(error.to_string()))?,
        capacity_bytes: settings.node.capacity_bytes,
        heal_after: settings.node.heal_after,
        scrub_every: settings.node.scrub_every.interval(),
        keep_removed: settings.node.keep_removed,
        messages: messages::Options {
            sent_ttl: settings.node.sent_ttl.duration(),
            inbox_ttl: settings.node.inbox_ttl.duration(),
            hook_timeout: settings.node.hook_timeout,
            hook_tries: settings.node.hook_tries,
            hooks_at_once: settings.node.hooks_at_once,
        },
        channels_strict: settings.node.channels_strict,
        run: RunOptions {
            allow: settings.node.allow_run,
            from: settings.node.run_from.clone(),
            programs: settings.node.run_programs.clone(),
            user: settings.node.run_user.clone(),
            folder: settings.node.run_folder.clone(),
        },
    };
    if arguments.rebuild {
        rebuild(context, &options.data_dir)?;
    }
    let runtime = runtime()?;
    let ended = runtime.block_on(serve(context, options, server));
    // What still runs has been told to stop and had its time.
    runtime.shutdown_background();
    ended
}

/// Puts a damaged catalog aside and says what is left.
fn rebuild(context: &Context, folder: &Path) -> Result<(), Failure> {
    let rebuilt = Store::rebuild(folder).map_err(|error| failure_of(&error.into()))?;
    let aside = match &rebuilt.aside {
        Some(path) => format!("the old catalog is now {}", path.display()),
        None => "there was no catalog".into(),
    };
    context.printer.note(format_args!(
        "{aside}; {} contents ({}) were whole and are taken in, {} were not and are in quarantine; \
         names and small files come from the other machines",
        rebuilt.adopted,
        format_bytes(rebuilt.bytes),
        rebuilt.damaged,
    ));
    Ok(())
}

/// The C library's allocator keeps an arena a thread and hardly gives memory back: measured after
/// 50,000 files, 145 MB instead of 60. It can be told otherwise by its environment alone, so the
/// node starts anew with that set, as the same process. Where that does not work it goes on as is.
fn keep_memory_small() {
    const ARENAS: &str = "MALLOC_ARENA_MAX";
    if cfg!(not(all(target_os = "linux", target_env = "gnu"))) || std::env::var_os(ARENAS).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let mut again = std::process::Command::new(program);
    again.args(std::env::args_os().skip(1)).env(ARENAS, "1").env("MALLOC_MMAP_THRESHOLD_", "131072");
    let error = std::os::unix::process::CommandExt::exec(&mut again);
    tracing::debug!(%error, "the node keeps the allocator's defaults");
}

/// What is to be served over HTTP, and where.
struct Serving {
    place: Option<Place>,
    access: Access,
    hosts: Vec<Host>,
}

impl Serving {
    fn new(settings: &Settings) -> Result<Serving, Failure> {
        let access = access(settings)?;
        let place = match settings.node.http {
            Http::Off => None,
            Http::Usual => Some(Place::usual(access.bind, access.secret.is_secured())),
            Http::At(address) => Some(Place::At(address)),
        };
        let own = [host_name(), settings.node.name.clone()];
        let own = own.iter().flat_map(|name| [name.to_string(), format!("{name}.local")]);
        let own = own.map(|name| Host { name, port: None, is_https: false });
        let given = settings.node.http_hosts.iter().map(|host| Host {
            name: host.at.host.to_string(),
            port: host.at.port,
            is_https: host.is_https,
        });
        Ok(Serving { place, access, hosts: own.chain(given).collect() })
    }

    /// Takes the port, if there is one to be taken.
    async fn open(&self) -> Result<Option<Server>, Failure> {
        let Some(place) = self.place else { return Ok(None) };
        let server = Server::open(place).await.map_err(|error| {
            Failure::failed(chain(&error))
                .hint("choose another address with `--http ADDR:PORT`, or `--http off`")
        })?;
        Ok(Some(server))
    }
}

async fn serve(context: &Context, mut options: Options, serving: Serving) -> Result<Outcome, Failure> {
    let mut interrupt = listen_to(SignalKind::interrupt())?;
    let mut terminate = listen_to(SignalKind::terminate())?;
    let server = serving.open().await?;
    let http = server.as_ref().map(Server::address).transpose().map_err(anyhow::Error::from)?;
    options.http_port = http.map_or(0, |http| http.port());
    let name = options.name.clone();
    let (folder, cluster) = (options.data_dir.clone(), options.cluster.clone());
    let node = Node::open(options).await.map_err(|error| failure_of(&error))?;
    let ready = node.ready();
    if !ready.secured {
        context.printer.note(format_args!(
            "this LAN is open: whoever is on it can read and change the files of cluster `{cluster}`; \
             `thorp key new` makes a key that closes it"
        ));
    }
    tracing::info!(folder = %folder.display(), "started");
    let document = ReadyDocument {
        node: ready.node.to_string(),
        tcp: reachable(ready.tcp).to_string(),
        http: http.map(|http| reachable(http).to_string()),
    };
    let (stop_web, stopping) = watch::channel(false);
    let web = server.map(|server| {
        let options = web::Options {
            access: serving.access,
            node: ready.node,
            name,
            channels: node.channels(),
            insight: node.insight(),
            hosts: serving.hosts,
        };
        tokio::spawn(async move {
            if let Err(error) = server.run(options, stopping).await {
                tracing::error!(error = chain(&error), "HTTP is not served");
            }
        })
    });
    context.printer.result(&document, |printer| {
        let http = document.http.as_deref().unwrap_or("-");
        printer.line(format_args!("ready {} {} {http}", document.node, document.tcp));
    });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut running = Box::pin(node.run(async {
        let _ = stopped.await;
    }));
    tokio::select! {
        ended = &mut running => return ended.map(|()| Outcome::Done).map_err(|error| failure_of(&error)),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    stop_web.send_replace(true);
    tracing::info!("leaving: goodbye is said and what is being written is finished; again to end at once");
    drop(stop);
    let ending = async {
        let ended = running.await;
        if let Some(web) = web {
            let _ = web.await;
        }
        ended
    };
    tokio::select! {
        ended = ending => ended.map(|()| Outcome::Done).map_err(|error| failure_of(&error)),
        _ = interrupt.recv() => Ok(Outcome::Done),
        _ = terminate.recv() => Ok(Outcome::Done),
    }
}

fn listen_to(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::failed(format!("signals cannot be heard: {error}")))
}

/// An address at which others can reach a socket that listens on all of them.
fn reachable(tcp: SocketAddr) -> SocketAddr {
    if !tcp.ip().is_unspecified() {
        return tcp;
    }
    let outward = interfaces().into_iter().find(|interface| !interface.loopback);
    let ip = outward.map_or(Ipv4Addr::LOCALHOST, |interface| interface.address);
    SocketAddr::new(IpAddr::V4(ip), tcp.port())
}

fn failure_of(error: &NodeError) -> Failure {
    let failure = match error {
        NodeError::KeyMissing => Failure::not_allowed(chain(error)),
        error => Failure::failed(chain(error)),
    };
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
