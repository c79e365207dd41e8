//! One process: it recovers the journal, writes to it and to files, and is killed.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::time::{sleep, timeout};
use base::{Clock, Entropy, Role, WriterId};
use bytes::Bytes;
use futures::future::join_all;
use journal::{AppendError, Entry, Journal, JournalParts, JournalSettings, Recovered, Tail};
use tokio_util::sync::CancellationToken;
use zones::turn::Turn;
use zones::{GetError, ObjectName, PutError, Zone, Zones};

use crate::door::Door;
use crate::life::Life;
use crate::oracle::{Fate, File, Found, Sent, Told};
use crate::plant::Plant;
use crate::trace::short;
use crate::world::{FILES, JOURNAL, World, product};

/// How many senders a process has, and how much each of them does.
pub(crate) const SENDERS: u64 = 3;
pub(crate) const DEEDS: u64 = 14;

/// A process that runs.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
    pub(crate) zones: Arc<Zones>,
    /// What it found while it was alone, until that is decided.
    found: Mutex<Option<Vec<Found>>>,
    /// Cancelled when it ends, as its tasks are with it.
    cancel: CancellationToken,
}

impl Process {
    /// It begins; nothing is recovered yet.
    pub(crate) fn new(world: &Arc<World>, life: &Arc<Life>) -> Self {
        let doors = world.sites.iter().map(|site| -> Arc<dyn Zone> {
            Arc::new(Door {
                site: Arc::clone(site),
                life: Arc::clone(life),
                world: Arc::clone(world),
                turn: Turn::default(),
            })
        });
        let zones = Zones::new(doors.collect(), world.settings(), Arc::clone(&world.clock) as Arc<dyn Clock>);
        let key = world.house.installation.key();
        zones.vouch_with(Arc::new(move |name, object| {
            !name.is_below("raw") || journal::is_segment(&key, Role::Warehouse, name, object)
        }));
        let cancel = CancellationToken::new();
        zones.spawn_catch_up(cancel.clone());
        Self {
            world: Arc::clone(world),
            life: Arc::clone(life),
            zones,
            found: Mutex::default(),
            cancel,
        }
    }

    /// Lives until it is killed or has done all it wanted to.
    pub(crate) async fn live(self) {
        tokio::select! {
            biased;
            () = self.life.ended() => {}
            () = self.work() => {}
        }
        self.stop();
    }

    pub(crate) fn stop(&self) {
        self.cancel.cancel();
        self.world
            .note(format_args!("{} ends after {} steps", self.life.number, self.life.steps()));
        self.life.kill();
    }

    async fn work(&self) {
        let Some((recovered, found)) = self.recover().await else { return };
        if self.world.may.product {
            return self.trade(&recovered, &found).await;
        }
        let journal = self.start(&recovered);
        let senders = (0..SENDERS).map(|sender| self.send(&journal, sender));
        join_all(senders).await;
        if self.world.deeds.one_in(2) {
            // An orderly end.
            let _in_time = timeout(Duration::from_secs(60), journal.close()).await;
        }
    }

    /// Recovers the journal, however long that takes, and holds what is found against what was promised.
    pub(crate) async fn recover(&self) -> Option<(Recovered, Vec<Found>)> {
        let (world, key) = (&self.world, self.world.house.installation.key());
        loop {
            let alone = world.lives().iter().all(|life| life.number == self.life.number || !life.is_alive());
            let recovered = journal::recover(&self.zones, &key, Role::Warehouse, JOURNAL, product()).await;
            let why = match recovered {
                Ok(recovered) => {
                    let head = world.oracle().head;
                    match recovered.check_head(&head) {
                        Err(error) if world.may.wild => error.to_string(),
                        _ => match self.texts(&recovered).await {
                            Ok(found) => {
                                // Whoever has a successor has read what was there before that one.
                                let broken = if self.lingers() {
                                    Vec::new()
                                } else {
                                    world.oracle().look_at(&found, !world.may.wild)
                                };
                                if alone && !self.lingers() {
                                    *self.found() = Some(found.clone());
                                }
                                broken
                                    .into_iter()
                                    .for_each(|what| world.broken(format!("{}: {what}", self.life.number)));
                                world.note(format_args!("{} has recovered {} entries", self.life.number, found.len()));
                                let mut oracle = world.oracle();
                                oracle.recovered = oracle.recovered.max(self.life.number);
                                drop(oracle);
                                return Some((recovered, found));
                            }
                            Err(why) => why,
                        },
                    }
                }
                Err(error) => error.to_string(),
            };
            world.oracle().refused_starts += 1;
            world.note(format_args!("{} cannot recover: {}", self.life.number, without_digests(&why)));
            if !self.life.is_alive() {
                return None;
            }
            sleep(world.deeds.millis(200, 2_000)).await;
        }
    }

    async fn texts(&self, recovered: &Recovered) -> Result<Vec<Found>, String> {
        let mut all = Vec::new();
        for segment in &recovered.segments {
            let entries = segment.open(&self.zones, &self.world.house.private).await;
            for entry in entries.map_err(|error| error.to_string())? {
                if entry.header != entry.payload {
                    return Err("an entry's header and payload do not belong together".into());
                }
                all.push(Found {
                    segment: segment.id,
                    text: String::from_utf8_lossy(&entry.payload).into_owned(),
                });
            }
        }
        Ok(all)
    }

    pub(crate) fn start(&self, recovered: &Recovered) -> Journal {
        let world = &self.world;
        let parts = JournalParts {
            zones: Arc::clone(&self.zones),
            signer: Arc::clone(&world.house.signer.0),
            clock: Arc::clone(&world.clock) as Arc<dyn Clock>,
            entropy: Arc::clone(&world.deeds) as Arc<dyn Entropy>,
        };
        let settings = JournalSettings {
            commit_after: world.deeds.millis(0, 50),
            ..JournalSettings::default()
        };
        let tail = if world.plant == Some(Plant::StaleWriter) {
            Tail::empty()
        } else {
            recovered.tail()
        };
        let writer = WriterId::generate(world.clock.now(), &*world.deeds);
        let journal = Journal::start(parts, settings, JOURNAL, product(), world.house.private.public(), writer, tail);
        self.remember(&journal);
        journal
    }

    async fn send(&self, journal: &Journal, sender: u64) {
        let chance = &self.world.deeds;
        for deed in 0..DEEDS {
            sleep(chance.millis(0, 250)).await;
            self.remember(journal);
            match chance.below(10) {
                0..6 => {
                    self.append(journal, format!("life {} sender {sender} entry {deed}", self.life.number))
                        .await
                }
                6..8 => self.put(format!("life-{}-{sender}-{deed}", self.life.number)).await,
                8 => self.delete().await,
                _ => self.read().await,
            }
        }
    }

    /// Whether a later process has begun.
    pub(crate) fn lingers(&self) -> bool {
        self.world.lives().last().is_some_and(|last| last.number != self.life.number)
    }

    async fn append(&self, journal: &Journal, text: String) {
        let world = &self.world;
        let sent = Sent {
            told: Told::Nothing,
            lingering: false,
        };
        world.oracle().sent.insert(text.clone(), sent);
        let bytes = Bytes::from(text.clone());
        let entry = Entry {
            header: bytes.clone(),
            payload: bytes,
        };
        let had_successor = world.may.fenced && world.oracle().recovered > self.life.number;
        let outcome = journal.append(entry).await;
        if !self.life.is_alive() {
            return;
        }
        // Who has a successor over stores acknowledges what that one finds, or nothing.
        let lingering = self.lingers() && !world.may.fenced;
        if had_successor && outcome.is_ok() {
            world.broken(format!("{text} was accepted after a later process had recovered"));
        }
        let told = match &outcome {
            Ok(id) => Told::Accepted(*id),
            // Where nothing fences it off, a successor may have found it before it was taken back, as in seed 1452.
            Err(AppendError::TooFewZones { .. }) if !lingering => Told::Refused,
            Err(_) => Told::Nothing,
        };
        if let Err(AppendError::Internal { what }) = &outcome {
            world.broken(format!("{text}: {what}"));
        }
        let word = match told {
            Told::Nothing => "is undecided".to_owned(),
            Told::Accepted(id) => format!("is accepted at {}", id.sequence),
            Told::Refused => "is refused".into(),
        };
        world.note(format_args!("{text} {word}"));
        if matches!(told, Told::Accepted(_)) {
            self.life.has_written.store(true, Ordering::Relaxed);
        }
        if matches!(told, Told::Accepted(_)) {
            self.remember(journal);
        }
        world.oracle().sent.insert(text, Sent { told, lingering });
    }

    /// Another role is told of the head, if it may be; from then on what was found at the start has to stay.
    pub(crate) fn remember(&self, journal: &Journal) {
        let Some(head) = journal.decided() else { return };
        if !self.life.is_alive() || self.lingers() {
            return;
        }
        let mut oracle = self.world.oracle();
        if head.length > oracle.head.length {
            oracle.head = head;
        }
        drop(oracle);
        self.stays();
    }

    /// Whatever this process found has to be found by every later one.
    pub(crate) fn stays(&self) {
        if let Some(found) = self.found().take() {
            self.world.oracle().seen = found;
        }
    }

    fn found(&self) -> MutexGuard<'_, Option<Vec<Found>>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn put(&self, id: String) {
        let world = &self.world;
        let mut bytes = vec![0; 10 + world.deeds.below(200) as usize];
        world.deeds.fill(&mut bytes);
        let bytes = Bytes::from(bytes);
        let Ok(name) = ObjectName::new(FILES, &id, &bytes) else { return };
        let file = File {
            bytes: bytes.clone(),
            fate: Fate::Perhaps,
        };
        world.oracle().files.insert(name.clone(), file);
        let outcome = self.zones.put(&name, bytes).await;
        if !self.life.is_alive() {
            return;
        }
        let fate = match outcome {
            Ok(()) => Fate::Kept,
            Err(PutError::TooFewZones { .. }) if world.may.fenced || !self.lingers() => Fate::Refused,
            Err(_) => Fate::Perhaps,
        };
        world.note(format_args!("{id} is {fate:?}"));
        world.oracle().set_fate(&name, fate);
    }

    async fn delete(&self) {
        let world = &self.world;
        let kept = world.oracle().kept();
        let Some(name) = world.deeds.pick(&kept) else { return };
        world.oracle().set_fate(name, Fate::Going);
        let outcome = self.zones.delete(name).await;
        if self.life.is_alive() && outcome.is_ok() {
            world.note(format_args!("{} is deleted", short(name)));
            world.oracle().set_fate(name, Fate::Deleted);
        }
    }

    /// Reads a file, or looks which there are.
    async fn read(&self) {
        let world = &self.world;
        let names: Vec<ObjectName> = world.oracle().files.keys().cloned().collect();
        if world.deeds.one_in(2) {
            let Some(name) = world.deeds.pick(&names) else { return };
            self.read_one(name).await;
            return;
        }
        // Those of others are not known to be deleted here before a majority was listed.
        let own = format!("life-{}-", self.life.number);
        let gone = |name: &ObjectName| {
            let fate = world.oracle().fate(name);
            name.id().starts_with(&own) && matches!(fate, Some(Fate::Refused | Fate::Deleted))
        };
        let gone: Vec<ObjectName> = names.into_iter().filter(gone).collect();
        let Ok(listed) = self.zones.list(FILES).await else { return };
        for object in listed.iter().filter(|object| gone.contains(&object.name)) {
            world.broken(format!("{} is gone and is listed", short(&object.name)));
        }
    }

    async fn read_one(&self, name: &ObjectName) {
        let world = &self.world;
        let Some(before) = world.oracle().files.get(name).cloned() else {
            return;
        };
        let read = self.zones.get(name, 1 << 20).await;
        let after = world.oracle().fate(name);
        if before.fate == Fate::Kept && after == Some(Fate::Kept) {
            match read {
                Ok(bytes) if bytes == before.bytes => {}
                Ok(_) => world.broken(format!("{} is something else", short(name))),
                Err(GetError::Unavailable { .. }) => {}
                Err(error) => world.broken(format!("{} was kept: {}", short(name), without_digests(&error.to_string()))),
            }
        } else if before.fate == Fate::Refused && read.is_ok() {
            world.broken(format!("{} was refused and is there", short(name)));
        }
    }
}

/// Digests are others in each run.
pub(crate) fn without_digests(text: &str) -> String {
    let hex = |c: char| c.is_ascii_hexdigit();
    let mut words = Vec::new();
    for word in text.split('.') {
        let run: usize = word.chars().take_while(|c| hex(*c)).count();
        words.push(if run >= 64 { word.get(run..).unwrap_or_default() } else { word });
    }
    words.join(".")
}
