//! The way from a process to a zone of the simulation.
//!
//! What a process asks of a zone travels for a while, is done or not, and the answer travels back or is lost. What has set out arrives,
//! whatever became of the process: late, twice as late as its sender waited, or not at all.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base::time::sleep;
use bytes::Bytes;
use tokio::sync::oneshot;
use zones::turn::{Turn, TurnStore, Turned};
use zones::{ObjectName, Zone, ZoneError};

use crate::life::Life;
use crate::oracle;
use crate::plant::Plant;
use crate::site::{Answer, Ask, Condition, Site};
use crate::world::World;

/// What becomes of one request: drawn when it sets out.
#[derive(Debug)]
struct Way {
    there: Duration,
    back: Duration,
    fate: Fate,
    /// Whether it arrives although its sender is dead by then.
    survives: bool,
}

#[derive(Debug)]
enum Fate {
    /// It is done, and said to be.
    Done,
    /// It is not done, and nobody knows.
    Lost,
    /// It is done, and nobody knows.
    Denied,
    /// Nobody knows, and it is done later.
    Late(Duration),
    /// It is done, and the answer comes when nobody waits any more.
    Unanswered(Duration),
}

impl Way {
    fn draw(world: &World, condition: Condition) -> Self {
        let chance = &world.way;
        let slow = condition == Condition::Slow && chance.one_in(2);
        let one = |usual: u64| match (slow, chance.below(20)) {
            (true, _) => chance.millis(300, 9_000),
            (false, 0) => chance.millis(usual, 40 * usual),
            (false, _) => chance.millis(0, usual),
        };
        let (there, back) = (one(8), one(4));
        let fate = match (condition, chance.below(8)) {
            (Condition::Unclear, 0) => Fate::Lost,
            (Condition::Unclear, 1) => Fate::Denied,
            (Condition::Unclear, 2) if world.may.late => Fate::Late(chance.millis(1, 6_000)),
            (Condition::Unclear, 3) => Fate::Unanswered(chance.millis(1_000, 20_000)),
            _ => Fate::Done,
        };
        Self {
            there,
            back,
            fate,
            survives: world.may.late && chance.one_in(2),
        }
    }
}

/// A zone as one process reaches it.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) site: Arc<Site>,
    pub(crate) life: Arc<Life>,
    pub(crate) world: Arc<World>,
    /// Where it is a store, which turn to write to it the process has.
    pub(crate) turn: Turn,
}

impl Door {
    async fn ask(&self, ask: Ask) -> Result<Answer, ZoneError> {
        let (world, site) = (&self.world, &self.site);
        if !self.life.is_alive() {
            return std::future::pending().await;
        }
        if !self.life.step() && world.way.one_in(2) {
            // Killed before it was sent; else just after.
            return std::future::pending().await;
        }
        world.note(format_args!("{} asks {}: {}", self.life.number, site.name, ask.words()));
        let broken = world.plant;
        match (&ask, broken) {
            (Ask::Delete(name), Some(Plant::NothingWithdrawn))
                if !matches!(world.oracle().fate(name), Some(oracle::Fate::Going | oracle::Fate::Deleted)) =>
            {
                return Ok(Answer::Done);
            }
            (Ask::List(prefix, ..), Some(Plant::GravesIgnored)) if prefix.starts_with("tombstones") => {
                return Ok(Answer::Names(Vec::new()));
            }
            _ => {}
        }
        let hasty = broken == Some(Plant::AcknowledgedTooEarly) && matches!(ask, Ask::Put(..));
        let mut way = Way::draw(world, site.condition());
        // What takes something away dies with its sender: against that nothing but the zone itself could help.
        way.survives &= matches!(&ask, Ask::Put(name, _) if !name.as_str().starts_with("tombstones"));
        let (tell, told) = oneshot::channel();
        tokio::spawn(carry(Arc::clone(world), Arc::clone(site), Arc::clone(&self.life), ask, way, tell));
        if hasty {
            return Ok(Answer::Done);
        }
        match told.await {
            Ok(Ok(Answer::Names(names))) if broken == Some(Plant::GravesIgnored) => {
                let graves = |name: &ObjectName| name.as_str().starts_with("tombstones");
                Ok(Answer::Names(names.into_iter().filter(|name| !graves(name)).collect()))
            }
            Ok(answer) if self.life.is_alive() => answer,
            // It is dead, or its request is lost with its sender.
            _ => std::future::pending().await,
        }
    }

    /// As `zones::S3Zone`: nothing is listed or changed before it has a turn, nor after it has heard of a later one.
    async fn enter(&self) -> Result<(), ZoneError> {
        if !self.world.may.fenced || self.turn.is_held() {
            return Ok(());
        }
        let turned = self.turn.take(self).await;
        match turned.map_err(|error| self.down(error.to_string()))? {
            Turned::Ours => Ok(()),
            Turned::TakenOver => Err(self.down("another process has taken it over".into())),
            Turned::Contended => Err(self.down("others keep taking it over".into())),
        }
    }

    /// After a change: that it still is the process's turn. The change is made, whatever comes of this.
    async fn look(&self) -> Result<(), ZoneError> {
        if !self.world.may.fenced || self.world.plant == Some(Plant::FencePassed) {
            return Ok(());
        }
        match self.turn.look(self).await {
            Ok(Turned::Ours) => Ok(()),
            Ok(_) => Err(self.unclear("another process has taken it over")),
            Err(error) => Err(self.unclear(&error.to_string())),
        }
    }

    fn down(&self, detail: String) -> ZoneError {
        ZoneError::Down {
            zone: self.site.name.clone(),
            detail,
        }
    }

    async fn whether(&self, ask: Ask) -> Result<bool, ZoneError> {
        match self.ask(ask).await? {
            Answer::Whether(whether) => Ok(whether),
            _ => self.strange(),
        }
    }

    fn strange<T>(&self) -> Result<T, ZoneError> {
        Err(self.unclear("it answered something else"))
    }

    fn unclear(&self, detail: &str) -> ZoneError {
        ZoneError::Unclear {
            zone: self.site.name.clone(),
            detail: detail.into(),
        }
    }

    async fn done(&self, ask: Ask) -> Result<(), ZoneError> {
        match self.ask(ask).await? {
            Answer::Done => Ok(()),
            _ => self.strange(),
        }
    }

    async fn bytes(&self, ask: Ask) -> Result<Bytes, ZoneError> {
        match self.ask(ask).await? {
            Answer::Bytes(bytes) => Ok(bytes),
            _ => self.strange(),
        }
    }
}

/// Brings a request to a zone and the answer back.
async fn carry(world: Arc<World>, site: Arc<Site>, life: Arc<Life>, ask: Ask, way: Way, tell: oneshot::Sender<Result<Answer, ZoneError>>) {
    let boot = world.boot();
    sleep(way.there).await;
    site.admitted().await;
    // A power cut ends all that is under way.
    let arrives = |world: &World| world.boot() == boot && (life.is_alive() || way.survives);
    if !arrives(&world) {
        return;
    }
    let unclear = |detail: &str| ZoneError::Unclear {
        zone: site.name.clone(),
        detail: detail.into(),
    };
    let answer = match way.fate {
        Fate::Done => site.perform(&ask).await,
        Fate::Lost => Err(unclear("it was lost")),
        Fate::Denied => {
            drop(site.perform(&ask).await);
            Err(unclear("the connection broke"))
        }
        Fate::Late(later) => {
            drop(tell.send(Err(unclear("the connection broke"))));
            sleep(later).await;
            site.admitted().await;
            if arrives(&world) {
                world.note(format_args!("late, {} does for {}: {}", site.name, life.number, ask.words()));
                drop(site.perform(&ask).await);
                world.look_at_the_power();
            }
            return;
        }
        Fate::Unanswered(later) => {
            drop(site.perform(&ask).await);
            sleep(later).await;
            Err(unclear("there was no answer"))
        }
    };
    world.look_at_the_power();
    let word = match &answer {
        Ok(Answer::Done) => "done".to_owned(),
        Ok(Answer::Bytes(bytes)) => format!("{} bytes", bytes.len()),
        Ok(Answer::Names(names)) => format!("{} names", names.len()),
        Ok(Answer::Turns(turns)) => format!("{} turns", turns.len()),
        Ok(Answer::Whether(whether)) => whether.to_string(),
        Err(ZoneError::Down { .. }) => "down".into(),
        Err(ZoneError::Unclear { .. }) => "unclear".into(),
        Err(ZoneError::NotFound { .. }) => "not found".into(),
        Err(_) => "wrong".into(),
    };
    world.note(format_args!("{} for {}: {}: {word}", site.name, life.number, ask.words()));
    sleep(way.back).await;
    // Its sender may be dead or have given up.
    drop(tell.send(answer));
}

#[async_trait]
impl Zone for Door {
    fn name(&self) -> &str {
        &self.site.name
    }

    async fn put(&self, name: &ObjectName, bytes: Bytes) -> Result<(), ZoneError> {
        self.enter().await?;
        self.done(Ask::Put(name.clone(), bytes)).await?;
        self.look().await
    }

    async fn get(&self, name: &ObjectName, most: u64) -> Result<Bytes, ZoneError> {
        self.bytes(Ask::Get(name.clone(), most)).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, ZoneError> {
        self.bytes(Ask::Range(name.clone(), range)).await
    }

    async fn list_page(&self, prefix: &str, after: &str, most: usize) -> Result<Vec<ObjectName>, ZoneError> {
        self.enter().await?;
        match self.ask(Ask::List(prefix.to_owned(), after.to_owned(), most)).await? {
            Answer::Names(names) => Ok(names),
            _ => self.strange(),
        }
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), ZoneError> {
        self.enter().await?;
        self.done(Ask::Delete(name.clone())).await?;
        self.look().await
    }

    async fn probe(&self) -> Result<(), ZoneError> {
        if self.world.may.fenced && self.turn.is_held() {
            // Else it would never hear of a later one while it writes nothing.
            self.turn.look(self).await?;
        }
        self.enter().await?;
        self.done(Ask::Probe).await
    }

    fn is_final(&self) -> bool {
        !self.world.may.late && !self.world.may.fenced
    }

    fn is_complete(&self) -> bool {
        self.site.is_complete()
    }

    async fn set_complete(&self) -> Result<(), ZoneError> {
        self.done(Ask::SetComplete).await
    }
}

#[async_trait]
impl TurnStore for Door {
    async fn turns(&self) -> Result<Vec<u64>, ZoneError> {
        match self.ask(Ask::Turns).await? {
            Answer::Turns(turns) => Ok(turns),
            _ => self.strange(),
        }
    }

    async fn create_turn(&self, turn: u64) -> Result<bool, ZoneError> {
        self.whether(Ask::CreateTurn(turn)).await
    }

    async fn is_taken(&self, turn: u64) -> Result<bool, ZoneError> {
        self.whether(Ask::IsTaken(turn)).await
    }

    /// There are never so many.
    async fn remove_turn(&self, _: u64) {}
}
