//! Longer help: what the one line of an option cannot say, with examples. It is the first thing that
//! someone reads who has never heard of thorp.

/// thorp in one line.
pub const ABOUT: &str = "Turns the machines of a LAN into one: files in as many copies as you ask";
/// thorp for those who have never heard of it.
pub const INTRODUCTION: &str = "\
thorp turns the machines of a LAN into one. Start `thorp up` on each: they find each other by
themselves, and keep every file that you put in as many copies as you ask, each on a different
machine. When a machine dies, its copies are made anew elsewhere. Nothing is configured and
nothing leaves the LAN.";
pub(super) const EXAMPLES: &str = "\
Examples:
  thorp demo                     see it work: five nodes on this machine, in a minute
  thorp up                       make this machine part of the LAN's store
  thorp put photos -n 3          store a folder, three copies of each file
  thorp ls                       what is stored, and where
  thorp get photos/              get it back, on any machine
  thorp status                   which machines there are, and how they are
  thorp config                   every setting, its value, and what decided it

Sizes: `500M` is 500 x 1000 x 1000 bytes, `500MiB` is 500 x 1024 x 1024; k, M, G, T and P.
Durations: `500ms`, `30s`, `10m`, `24h`, `7d`.

A cluster key closes the LAN to those who lack it. It is no option, since others can read those:
  (umask 077; thorp key new > house.key)     then `--key-file house.key`, or
  THORP_KEY                                  the key itself, in the environment

Every option has a variable, and every setting a key in config.toml, like --heal-after,
THORP_HEAL_AFTER and heal_after = \"60s\". Order: option, environment, file, default. An empty
variable is as good as none. THORP_LOG takes a filter for logs, like `debug`; NO_COLOR turns
colours off.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no proxy found, 4 no such file or machine,
5 accepted but fewer copies than asked for now, 6 not allowed.";

pub(super) const UP_EXAMPLES: &str = "\
Runs in the foreground until Ctrl-C or SIGTERM. Once it is ready it prints one line:
`ready <node id> <tcp address:port> <http address:port or ->`.

Examples:
  thorp up
  thorp up --capacity 500G --name attic
  thorp up --role client                      neither stores nor leads
  thorp up --rebuild                          after the catalog on this disk was damaged
  thorp up --key-file /etc/thorp/house.key    only with those who have the same key";
pub(super) const STATUS_EXAMPLES: &str = "\
Examples:
  thorp status
  thorp status --json | jq '.nodes[] | select(.state != \"up\") | .name'
  curl -H \"Authorization: Bearer $(thorp status --token)\" http://127.0.0.1:7668/api/files";
pub(super) const OPEN_EXAMPLES: &str = "\
With a cluster key the address carries the token: whoever has it can read and change all files.

Examples:
  thorp open
  xdg-open \"$(thorp open --no-qr)\"";
pub(super) const DEMO_EXAMPLES: &str = "\
Starts real nodes as processes of this machine, in a temporary folder and on loopback alone: puts a
file in three copies, kills a holder and shows the repair, kills the proxy and shows the takeover,
changes the number of copies, gets the file back and compares it. Leaves nothing behind.

Examples:
  thorp demo
  thorp demo holiday.mp4 --nodes 7
  thorp demo --keep                           leave the folder, to look at it";
pub(super) const CONFIG_EXAMPLES: &str = "\
What `thorp up` and the other commands would use here, with these options and variables, and what
decided it: an option, a variable, the config file or the default. Values are shown as config.toml
has them. The cluster key is never shown: only whether there is one, and where.

Examples:
  thorp config
  thorp config --port 9000 --role storage     what these options would change
  thorp config --json | jq '.[] | select(.source != \"default\")'";
pub(super) const CHANNEL_EXAMPLES: &str = "\
Who posts is there until it has not posted for a second, or as long as the first post of the channel
said. Programs do the same over HTTP, on any node: `/api/channels/KEY`.

Examples:
  thorp channel post game '{\"x\": 3, \"y\": 7}'
  thorp channel post sensors @reading.json --expire 1m
  thorp channel get game
  thorp channel follow game --json | jq -c .data";
pub(super) const KEY_EXAMPLES: &str = "\
Example:
  (umask 077; thorp key new > house.key)      readable by you alone
  thorp up --key-file house.key               on each machine, with the same file";
pub(super) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  thorp completions bash > ~/.local/share/bash-completion/completions/thorp
  thorp completions fish > ~/.config/fish/completions/thorp.fish
  thorp completions zsh > ~/.zfunc/_thorp";
pub(super) const MAN_EXAMPLES: &str = "\
Examples:
  thorp man | man -l -
  thorp man > /usr/local/share/man/man1/thorp.1";
pub(super) const PUT_EXAMPLES: &str = "\
A file is stored under its own name, a folder as `folder/...`. What a machine already has in any
file does not travel again.

Examples:
  thorp put report.pdf
  thorp put photos -n 3                       every file below photos/, three copies each
  thorp put draft.txt --as texts/final.txt
  thorp put *.log --into logs/today
  pg_dump shop | thorp put - --as shop.sql    from standard input
  thorp put report.pdf -n 3 --strict          exit code 5 if there are not three copies now";
pub(super) const GET_EXAMPLES: &str = "\
A name that ends in `/` is everything under it. A broken-off get continues where it stopped.

Examples:
  thorp get report.pdf
  thorp get photos/ -o /tmp                   writes /tmp/photos/...
  thorp get shop.sql -o - | psql shop         to standard output";
pub(super) const LS_EXAMPLES: &str = "\
States: ok; healing (copies are being made or removed); degraded (fewer copies than wanted, and no
machine to put more on now); lost (no live copy).

Examples:
  thorp ls
  thorp ls photos/ -l
  thorp ls --json | jq '.[] | select(.state != \"ok\")'";
pub(super) const VERIFY_EXAMPLES: &str = "\
Every machine that holds a copy reads all of it from its disk and hashes it. A bad copy is set aside
there and made anew from a good one; the command waits for that, while copies are being made, or as
long as `--timeout`. Nodes do the same by themselves every 7 days (`thorp up --scrub-every`).

Exit codes: 0 all are good or were mended; 5 some are not mended yet; 1 a file has no good copy left,
or a machine did not answer.

Examples:
  thorp verify                                everything
  thorp verify photos/ report.pdf
  thorp verify --json | jq '.bad'";
pub(super) const REPLICAS_EXAMPLES: &str = "\
Without N it shows how many copies are wanted and where they are. More than there are machines is
accepted: the rest follow when machines join. To remove a file, see `thorp rm`.

Examples:
  thorp replicas report.pdf
  thorp replicas report.pdf 3 --wait";
pub(super) const RM_EXAMPLES: &str = "\
What is removed or replaced is kept for 7 days (`keep_removed`) while there is room for it.

Examples:
  thorp rm report.pdf
  thorp rm -r photos                          everything under photos/
  thorp rm --now secret.txt                   for good, older versions too";
pub(super) const WHY_EXAMPLES: &str = "\
Example:
  thorp why report.pdf";
pub(super) const DRAIN_EXAMPLES: &str = "\
Each file that has a copy there gets one elsewhere first. Waits until that is done; exit code 5 if
some files have nowhere else to go. The machine remembers it over a restart.

Examples:
  thorp drain attic
  thorp drain attic --undo";
pub(super) const MERGE_EXAMPLES: &str = "\
Two open clusters that both have files stay apart when they meet, until somebody says otherwise.
Afterwards both have all files; names that both had show both versions.

Example:
  thorp merge 0f1e2d3c4b5a69788796a5b4c3d2e1f0     the id is in `thorp status`";
pub(super) const RESTORE_EXAMPLES: &str = "\
If there is a file of that name, it goes to the trash in exchange. Earlier versions have names of
their own in `thorp ls --removed`; each comes back under its plain name.

Examples:
  thorp ls --removed
  thorp restore report.pdf
  thorp restore photos/                       everything that was removed under photos/
  thorp restore report~1f2e3d4c-17.pdf        an earlier version of report.pdf";
pub(super) const SHARE_EXAMPLES: &str = "\
The link needs no token and works on any machine that serves HTTP, until it expires, or the file is
replaced or removed. It cannot be taken back otherwise: whoever has it can pass it on.

Examples:
  thorp share photos/sea.jpg
  thorp share film.mkv --expires 7d
  thorp share film.mkv --json | jq -r .url";
pub(super) const SYNC_EXAMPLES: &str = "\
The machine was started with `--allow-run`, and all have one cluster key. Only what is different
travels. What `.gitignore` and `.thorpignore` leave out stays here, and stays there; so does `.git`.
Lines begin with `+` (new), `~` (changed), `.` (permissions), `-` (removed).

Examples:
  thorp sync . attic                          a workspace of its own for this folder
  thorp sync build attic:game --delete        as workspace `game`, without what is not here any more
  thorp sync . attic --dry-run
  thorp sync . attic --watch";
pub(super) const SEND_EXAMPLES: &str = "\
The message is safe once the command ends: on two machines, where there are two. A machine that is off
finds it when it is back. It lies in `messages/inbox/` there, and `messages/hooks/TYPE` is run.

Examples:
  thorp send deploy --payload '{\"version\": 7}' --target attic
  echo '\"dinner\"' | thorp send note --payload - --wait
  thorp send report --attach report.pdf --priority high --expires 1h";
pub(super) const INBOX_EXAMPLES: &str = "\
Reads the folder `messages/inbox/` of this data folder and needs no node. A message that waits for its
hook is not removed.

Examples:
  thorp inbox
  thorp inbox --follow --ack --json | while read -r message; do ...; done";
pub(super) const LIST_EXAMPLES: &str = "\
Examples:
  thorp list outbox                           what waits to be sent
  thorp list failed                           what could not be sent, or whose hook failed, and why";
pub(super) const RETRY_EXAMPLES: &str = "\
What could not be sent goes back to the outbox and lives as long as if it were new; where the hook
failed, it is run again.

Examples:
  thorp retry                                 everything
  thorp retry 6f9619ff";
pub(super) const FLUSH_EXAMPLES: &str = "\
For good. A hook that is still to be run is run all the same.

Examples:
  thorp flush sent
  thorp flush failed";
pub(super) const HASH_EXAMPLES: &str = "\
The id is the one that `thorp ls -l` shows: equal ids, equal bytes.

Examples:
  thorp hash report.pdf
  thorp hash photos                           every file below it
  pg_dump shop | thorp hash -";
pub(super) const RUN_EXAMPLES: &str = "\
That machine must run `thorp up --allow-run`, and the LAN must have a cluster key. What is needed is synced first: the
folder of `--dir`, or the program and its assets. The program runs in that folder's copy; its output, input, signals and
exit code are this command's: 125 if it could not be started, 126 if it is no program, 127 if it is not there. Ctrl-C
interrupts it, a second one asks it to end, a third ends it.

Examples:
  thorp run --on pi ./target/release/game --level 3
  thorp run --on pi --dir . -- ./target/release/game
  thorp run --on any --asset scene.blend --get out -- blender -b scene.blend -o out/ -a
  thorp run --on pi -t htop
  thorp run --on all uptime
  thorp run --on attic --detach -- ./train.sh; thorp jobs";
pub(super) const JOBS_EXAMPLES: &str = "\
Examples:
  thorp jobs
  thorp jobs pi --json";
pub(super) const ATTACH_EXAMPLES: &str = "\
Ctrl-C goes to the program. A job that was not started with `--detach` ends some time after its last command is gone.

Example:
  thorp attach 3f2a9c01";
pub(super) const LOGS_EXAMPLES: &str = "\
The last 64 MiB are kept, also after the job has ended.

Examples:
  thorp logs 3f2a9c01
  thorp logs -f 3f";
pub(super) const STOP_EXAMPLES: &str = "\
The program is asked to end, and is ended after its `--linger`, with everything that it has started.

Example:
  thorp stop 3f2a9c01";
