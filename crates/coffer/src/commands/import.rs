//! `coffer import`: files of events into a table, each row once, however often it is begun.
//!
//! Promise: a chunk's id follows from what is in it ([`ids`]), so that sending it again stores nothing again. What is acknowledged is
//! durable; what is not is sent next time. No row is dropped: one that cannot be read is sent as it stands, and the server sets it
//! aside. Where none at all can be taken the import stops, because the file is not what it is taken for.
//!
//! A file is opened ([`source`]), looked at ([`plan`], [`show`]), cut ([`chunks`]) on a thread of its own, and sent ([`sending`]).
//! In memory: the 8 MiB that are looked at, and 6 chunks at most (being cut, waiting, [`sending::AT_ONCE`] under way), each of 8 MiB and one row.

mod chunks;
mod dry;
mod format;
mod frames;
mod guess;
mod ids;
mod plan;
mod rows;
mod sending;
mod show;
mod source;
mod state;
mod summary;
mod target;
mod time;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base::{Entropy, OsEntropy};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::{mpsc, oneshot};

use self::chunks::{Chunk, CutError, Cutter};
use self::ids::Meaning;
use self::plan::Plan;
use self::sending::{Patience, Senders};
use self::source::Source;
use self::state::{Changed, Memory, Subject};
use self::summary::Counts;
use self::target::{Known, Target};
use crate::cli::{Import, table_name};
use crate::client::Access;
use crate::failure::{During, Exit, Failure, Outcome};
use crate::terminal;

pub(crate) use format::Format as FileFormat;
pub(crate) use guess::ColumnType;
pub(crate) use time::TimeFormat;

/// Sends, or says what would be sent.
pub(crate) async fn run(args: Import) -> Outcome {
    let (database, table) = table_name(&args.table, args.database.as_deref())
        .map_err(|why| Failure::new(Exit::Usage, "there is no table to import into").why(why))?;
    check_files(&args.files)?;
    let args = Arc::new(args);
    if args.dry_run {
        return dry::run(args, database, table).await;
    }
    let access = Access::sending(&args.client)?;
    let identity = access.0.identity().map(str::to_owned);
    let named = format!("{database}.{table}");
    let progress = ProgressBar::hidden();
    let import = Running {
        target: Target::new(database, table, access),
        patience: Arc::new(Patience::of(args.patience, progress.clone())),
        args: Arc::clone(&args),
        identity,
        found: None,
        sent: HashSet::new(),
        progress: progress.clone(),
    };
    let mut done = Vec::new();
    let outcome = tokio::select! {
        outcome = import.all(&mut done) => outcome,
        stopped = asked_to_stop() => Err(stopped.err().unwrap_or_else(|| stopped_by_hand(&args.files))),
    };
    progress.finish_and_clear();
    if outcome.is_ok() || done.iter().any(|file: &Counts| file.rows_sent > 0) {
        terminal::say(summary::line(&named, &done));
    }
    if let Some(format) = args.output {
        summary::print(format, &named, &done)?;
    }
    outcome
}

fn check_files(files: &[PathBuf]) -> Outcome {
    if files.iter().filter(|file| is_stdin(file)).count() > 1 {
        return Err(Failure::new(Exit::Usage, "standard input is named more than once"));
    }
    for file in files.iter().filter(|file| !is_stdin(file)) {
        let what = || format!("could not read {}", terminal::harmless(&file.display().to_string()));
        file.metadata().map_err(|error| Failure::new(Exit::NotFound, what()).why(error))?;
    }
    Ok(())
}

fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

async fn asked_to_stop() -> Outcome {
    use tokio::signal::unix::{SignalKind, signal};
    let what = "could not listen for signals";
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt()).during(what)?,
        signal(SignalKind::terminate()).during(what)?,
    );
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

fn stopped_by_hand(files: &[PathBuf]) -> Failure {
    if files.iter().any(|file| is_stdin(file)) {
        return Failure::new(Exit::Failed, "the import was stopped")
            .why("you asked for it")
            .next("standard input cannot be gone on with: put it into a file, or send only what is missing");
    }
    Failure::new(Exit::Temporary, "the import was stopped")
        .why("you asked for it")
        .next("run the same command again: it goes on where it was")
}

/// Blocking work on a thread of its own, which nothing waits for when it is no longer wanted: reading from a pipe may take for ever.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Outcome<T> + Send + 'static) -> Outcome<T> {
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || tell.send(work()));
    told.await.during("reading ended early")?
}

/// Opens a file and works out what to do with it.
async fn opened(path: PathBuf, args: Arc<Import>) -> Outcome<(Source, Plan)> {
    aside(move || {
        let source = Source::open(&path, args.format)?;
        let plan = Plan::make(&source, &args)?;
        Ok((source, plan))
    })
    .await
}

/// An import under way.
struct Running {
    args: Arc<Import>,
    target: Target,
    patience: Arc<Patience>,
    progress: ProgressBar,
    /// Of endpoint and key.
    identity: [String; 2],
    /// The table, once it is known to be there.
    found: Option<Known>,
    /// Ids of this run.
    sent: HashSet<String>,
}

/// A chunk with its id, and how far in the file it ends.
struct Cut {
    chunk: Chunk,
    id: String,
    read: u64,
}

/// A chunk that was acknowledged.
struct Acknowledged {
    index: u64,
    id: String,
    rows: u64,
    rejected: u64,
    duplicate: bool,
    read: u64,
}

impl Running {
    async fn all(mut self, done: &mut Vec<Counts>) -> Outcome {
        let files = self.args.files.clone();
        for path in files {
            let begun = Instant::now();
            done.push(Counts {
                file: terminal::harmless(&path.display().to_string()).into_owned(),
                ..Counts::default()
            });
            let Some(counts) = done.last_mut() else { continue };
            let outcome = self.file(path, counts).await;
            counts.took = begun.elapsed();
            self.progress.finish_and_clear();
            outcome?;
        }
        Ok(())
    }

    async fn file(&mut self, path: PathBuf, counts: &mut Counts) -> Outcome {
        let begun = Instant::now();
        let (source, plan) = opened(path, Arc::clone(&self.args)).await?;
        show::lines(&source, &plan).iter().for_each(terminal::say);
        if source.file.is_none() {
            terminal::say("  standard input and pipes cannot be gone on with after an interruption");
        }
        let table = self.table().await?;
        let nonce = match source.file {
            Some(_) => String::new(),
            None => format!("{:016x}{:016x}", OsEntropy.next_u64(), OsEntropy.next_u64()),
        };
        let meaning = Meaning::new(&self.target.database, &self.target.table, &plan.meaning, &self.args.label, &nonce);
        let mut memory = self.memory(&source, &meaning, table)?;
        draw(&self.progress, source.file.as_ref().map(|file| file.size));

        let name = source.name.clone();
        let mut cuts = cutting(source, &plan, meaning);
        let rows = Arc::new(plan.rows);
        let senders = Senders::new(
            self.target.client.another(),
            self.target.database.clone(),
            self.target.table.clone(),
            Arc::clone(&self.patience),
        );
        let mut under_way = FuturesUnordered::new();
        let mut ending = None;
        while ending.is_none() || !under_way.is_empty() {
            tokio::select! {
                next = cuts.recv(), if ending.is_none() && under_way.len() < at_once(counts) => match next {
                    Some(Ok(Some(cut))) => {
                        if let Some(cut) = self.new_to_send(cut, &mut memory, counts, &name)? {
                            under_way.push(send(&senders, Arc::clone(&rows), cut));
                        }
                    }
                    // What was cut before is good: it is sent to its end.
                    Some(Ok(None)) => ending = Some(Ok(())),
                    Some(Err(failure)) => ending = Some(Err(failure)),
                    None => ending = Some(Err(Failure::new(Exit::Failed, format!("reading {name} ended early")))),
                },
                Some(sent) = under_way.next() => {
                    let sent: Acknowledged = sent?;
                    let first = counts.chunks_sent == 0;
                    counts.chunks_sent += 1;
                    counts.rows_sent += sent.rows;
                    counts.rows_rejected += sent.rejected;
                    if sent.duplicate {
                        counts.rows_known += sent.rows - sent.rejected.min(sent.rows);
                    }
                    if first && sent.rows > 0 && sent.rejected == sent.rows {
                        return Err(none_taken(sent.rows, &format!("{}.{}", self.target.database, self.target.table)));
                    }
                    memory.acknowledged(sent.index, &sent.id);
                    counts.took = begun.elapsed();
                    self.progress.set_position(sent.read.max(self.progress.position()));
                    self.progress.set_message(speed(counts));
                }
            }
        }
        ending.unwrap_or(Ok(()))?;
        memory.complete();
        counts.complete = true;
        Ok(())
    }

    /// Makes sure once that the table is there; its number, where the key may know it.
    async fn table(&mut self) -> Outcome<Option<u64>> {
        if self.found.is_none() {
            if self.target.ready(&self.patience).await? {
                terminal::say(format_args!("  made the table {}.{}", self.target.database, self.target.table));
            }
            self.found = Some(self.target.look().await.unwrap_or(Known::Hidden));
        }
        Ok(match self.found {
            Some(Known::There(number)) => number,
            _ => None,
        })
    }

    fn memory(&self, source: &Source, meaning: &Meaning, table: Option<u64>) -> Outcome<Memory> {
        let Some(file) = &source.file else { return Ok(Memory::none()) };
        let subject = Subject {
            meaning: meaning.hex(),
            size: file.size,
            table: table.map(|number| number.to_string()),
        };
        let Some(directory) = state::directory() else {
            terminal::say("  nothing is remembered of what was sent: neither XDG_STATE_HOME nor HOME is set");
            return Ok(Memory::none());
        };
        // A hash: neither the file's name nor the key can be read from it.
        let parts = [
            self.identity[0].as_bytes(),
            self.identity[1].as_bytes(),
            file.path.as_os_str().as_encoded_bytes(),
            self.target.database.as_str().as_bytes(),
            self.target.table.as_str().as_bytes(),
            self.args.label.as_bytes(),
        ];
        let name = hex::encode(ids::hash("file", parts));
        match Memory::open(&directory, &name, &subject, self.args.again) {
            Ok(Ok(memory)) => Ok(memory),
            Ok(Err(changed)) => Err(refused(&source.name, changed)),
            Err(error) => {
                terminal::say(format_args!(
                    "  nothing is remembered of what was sent: {} cannot be used: {error}",
                    directory.display()
                ));
                Ok(Memory::none())
            }
        }
    }

    /// The chunk, unless it need not be sent.
    fn new_to_send(&mut self, cut: Cut, memory: &mut Memory, counts: &mut Counts, name: &str) -> Outcome<Option<Cut>> {
        let known = memory
            .knows(cut.chunk.index, &cut.id)
            .map_err(|changed| refused(name, changed).why(format!("bytes {} to {} are others", cut.chunk.start, cut.chunk.end())))?;
        if cut.chunk.rows.is_empty() {
            return Ok(None);
        }
        let twice = !self.sent.insert(cut.id.clone());
        if twice && !std::mem::replace(&mut counts.same_as_before, true) {
            self.progress.suspend(|| {
                terminal::say(format_args!(
                    "  {name} begins as another file of this import does; what is the same is stored once (--label imports it again)"
                ));
            });
        }
        if known || twice {
            counts.chunks_skipped += 1;
            counts.rows_skipped += cut.chunk.rows.len() as u64;
            self.progress.set_position(cut.read.max(self.progress.position()));
            return Ok(None);
        }
        memory.begun(cut.chunk.index, &cut.id);
        Ok(Some(cut))
    }
}

/// How many chunks may be under way: one, until it is known that rows of this file can be taken.
fn at_once(counts: &Counts) -> usize {
    if counts.chunks_sent == 0 { 1 } else { sending::AT_ONCE }
}

fn none_taken(rows: u64, table: &str) -> Failure {
    Failure::new(Exit::Refused, "the import was stopped: none of its first rows could be taken")
        .why(format!("the server set all {} of them aside", terminal::grouped(rows)))
        .next(format!(
            "`coffer rejected list {table}` says why, `coffer rejected show {table}` shows them; is the file what it is taken for?"
        ))
}

fn refused(name: &str, changed: Changed) -> Failure {
    let what = match changed {
        Changed::File => format!("{name} changed since an import of it was begun"),
        Changed::Options => format!("an import of {name} into this table was begun with other options"),
    };
    Failure::new(Exit::Conflict, what)
        .why("what was stored then would be stored a second time")
        .next("put what is new into a file of its own; or, if the rows may be there twice, send all of it with --again")
}

async fn send(senders: &Senders, rows: Arc<rows::Rows>, cut: Cut) -> Outcome<Acknowledged> {
    let Cut { chunk, id, read } = cut;
    let place = (chunk.index, chunk.start, chunk.end());
    let count = chunk.rows.len() as u64;
    let packed = tokio::task::spawn_blocking(move || sending::pack(&chunk, &rows))
        .await
        .during("could not pack a chunk")?
        .during("could not pack a chunk")?;
    if let Some(at) = packed.first_unreadable.filter(|_| packed.unreadable == count && place.0 == 0) {
        return Err(Failure::new(Exit::Refused, "none of the first rows can be read")
            .why(format!(
                "there are {} of them, the first begins at byte {at}; nothing was sent",
                terminal::grouped(count)
            ))
            .next("is the file what it is taken for? --dry-run says what that is; name another --format, --columns or --time-format"));
    }
    let imported = senders.send(&id, &packed.body).await.map_err(|failure| {
        let (index, start, end) = place;
        match failure.exit {
            // The server names a row by its number in the chunk.
            Exit::Refused => failure
                .ended(Exit::Refused, format!("chunk {} (bytes {start} to {end}) was refused", index + 1))
                .next("correct the file; as other chunks of it may be stored already, import it into a new table then"),
            _ => failure,
        }
    })?;
    Ok(Acknowledged {
        index: place.0,
        id,
        rows: count,
        rejected: imported.rejected,
        duplicate: imported.duplicate,
        read,
    })
}

/// Cuts on a thread of its own. `Ok(None)` says that the end was reached.
fn cutting(mut source: Source, plan: &Plan, meaning: Meaning) -> mpsc::Receiver<Outcome<Option<Cut>>> {
    let (to, from) = mpsc::channel(1);
    let mut cutter = Cutter::new(source.content(), plan.framing(), plan.cut);
    std::thread::spawn(move || {
        loop {
            let cut = match cutter.next_chunk() {
                Ok(cut) => cut,
                Err(error) => {
                    let _gone = to.blocking_send(Err(unreadable(&source.name, error)));
                    return;
                }
            };
            if source.file.as_ref().is_some_and(|file| !file.is_unchanged()) {
                let changing = Failure::new(Exit::Conflict, format!("{} is being changed", source.name))
                    .why("its size or time of change is another since it was opened")
                    .next("wait until it is written, then run the same command again");
                let _gone = to.blocking_send(Err(changing));
                return;
            }
            let last = cut.is_none();
            let item = cut.map(|chunk| Cut {
                id: meaning.id(&chunk),
                read: source.read.load(Ordering::Relaxed),
                chunk,
            });
            if to.blocking_send(Ok(item)).is_err() || last {
                return;
            }
        }
    });
    from
}

fn unreadable(name: &str, error: CutError) -> Failure {
    match error {
        CutError::Read(error) => source::damaged(name, &error),
        CutError::Damaged(at, damage) => Failure::new(Exit::Refused, format!("{name} is damaged at byte {at}"))
            .why(damage.0)
            .next("is it whole? fetch it again, or name another --format"),
        CutError::RowTooLong(at) => Failure::new(Exit::Refused, format!("{name} has a row that is too long"))
            .why(format!(
                "the row that begins at byte {at} has more than {} MiB",
                frames::MAX_ROW >> 20
            ))
            .next("is it what it is taken for? name another --format, or cut the row"),
    }
}

/// A bar where the size is known, a spinner where not; nothing unless a person looks.
fn draw(progress: &ProgressBar, size: Option<u64>) {
    if !terminal::shows_messages() {
        return;
    }
    progress.reset();
    let template = match size {
        Some(size) => {
            progress.set_length(size);
            "  {bar:30} {percent:>3}%  {msg}  {eta} left"
        }
        None => "  {spinner} {msg}  {elapsed}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        progress.set_style(style);
    }
    progress.set_draw_target(indicatif::ProgressDrawTarget::stderr());
    progress.enable_steady_tick(Duration::from_millis(200));
}

fn speed(counts: &Counts) -> String {
    let rate = counts.rows_sent as f64 / counts.took.as_secs_f64().max(0.001);
    format!(
        "{}, {} rows/s",
        summary::counted(counts.rows_sent, "row"),
        terminal::grouped(rate as u64)
    )
}
