//! What all processes of a simulation share: the zones, the time, the keys, and what happened.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::time::SimulatedTime;
use base::{Clock, ProductId, Role, Timestamp};
use columns::catalog::MemoryCatalog;
use journal::CurrentSigner;
use seal::{InstallationSigner, PrivateKey, Signer};
use zones::{GraveKey, Power, ZonesSettings};

use crate::chance::Chance;
use crate::ledger::Ledger;
use crate::life::Life;
use crate::oracle::Oracle;
use crate::plant::Plant;
use crate::site::Site;
use crate::trace::Trace;

/// What may happen in a seed. Few seeds have everything: what is rare is found where the rest is quiet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct May {
    /// Requests are done after somebody said that they may not be, and after their sender's death.
    pub(crate) late: bool,
    /// One zone loses objects, changes them, or comes back as it was earlier. All others are well at the time: more than a
    /// minority of zones is never lost.
    pub(crate) destroy: bool,
    /// The same while others are away too. Then only the remembered head tells, and a process may refuse to start.
    pub(crate) wild: bool,
    /// Processes go on when their successors have begun.
    pub(crate) linger: bool,
    /// Zones are disks, and the power fails.
    pub(crate) power: bool,
    /// The clock on the wall jumps.
    pub(crate) jump: bool,
    /// Processes keep a product with a catalog, and do not write to the journal of themselves.
    pub(crate) product: bool,
    /// Zones are stores: every process takes turns in them, and one that has a successor acknowledges nothing more.
    pub(crate) fenced: bool,
}

impl May {
    fn draw(chance: &Chance, stores: &Chance) -> Self {
        let wild = chance.one_in(4);
        let destroy = wild || chance.one_in(3);
        // A catalog has one process: what lingers has none.
        let linger = !destroy && chance.one_in(4);
        let mut may = Self {
            product: !linger && chance.one_in(2),
            late: chance.one_in(2),
            destroy,
            wild,
            linger,
            power: chance.one_in(4),
            jump: chance.one_in(5),
            fenced: false,
        };
        // Turns are lost with a zone and not with its objects, and a store has no power to cut; so none of that meets them here.
        may.fenced = !may.destroy && !may.power && stores.one_in(2);
        may
    }
}

/// A clock on the wall that goes with simulated time, and jumps.
#[derive(Debug)]
pub(crate) struct Wall(AtomicI64);

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed)).plus(SimulatedTime::passed())
    }
}

impl Wall {
    fn jump(&self, micros: i64) {
        self.0.fetch_add(micros, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) may: May,
    pub(crate) plant: Option<Plant>,
    pub(crate) sites: Vec<Arc<Site>>,
    /// How requests travel, what processes do, and what befalls zones.
    pub(crate) way: Arc<Chance>,
    pub(crate) deeds: Arc<Chance>,
    pub(crate) weather: Chance,
    pub(crate) clock: Arc<Wall>,
    pub(crate) house: House,
    pub(crate) power: Power,
    pub(crate) catalog: MemoryCatalog,
    boot: AtomicU64,
    shaky: AtomicBool,
    /// Which zone may lose what it has.
    pub(crate) victim: usize,
    lives: Mutex<Vec<Arc<Life>>>,
    trace: Trace,
    oracle: Mutex<Oracle>,
    ledger: Mutex<Ledger>,
}

/// Keys.
#[derive(Debug)]
pub(crate) struct House {
    pub(crate) installation: InstallationSigner,
    pub(crate) private: PrivateKey,
    pub(crate) signer: SignerOf,
}

pub(crate) struct SignerOf(pub(crate) CurrentSigner);

impl std::fmt::Debug for SignerOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignerOf")
    }
}

/// The journal that is written.
pub(crate) const JOURNAL: &str = "raw/7";
/// Where files are kept that are no segments.
pub(crate) const FILES: &str = "tables/7/t";

pub(crate) fn product() -> Option<ProductId> {
    ProductId::new(7).ok()
}

impl World {
    pub(crate) fn new(seed: u64, plant: Option<Plant>, keep: bool) -> anyhow::Result<Arc<Self>> {
        let first = Chance::new(seed, "what may happen");
        let may = May::draw(&first, &Chance::new(seed, "stores"));
        let power = Power::on();
        let disk = may.power.then_some(&power);
        let sites = ["a", "b", "c"].map(|name| Site::new(name, disk)).into();
        let clock = Arc::new(Wall(AtomicI64::new(1_763_900_000_000_000)));
        let world = Arc::new(Self {
            may,
            plant,
            sites,
            way: Arc::new(Chance::new(seed, "ways")),
            deeds: Arc::new(Chance::new(seed, "deeds")),
            weather: Chance::new(seed, "weather"),
            house: House::new(&Chance::new(seed, "keys"), clock.now())?,
            clock,
            power,
            catalog: MemoryCatalog::default(),
            boot: AtomicU64::new(0),
            shaky: AtomicBool::new(true),
            victim: first.below(3) as usize,
            lives: Mutex::default(),
            trace: Trace::new(keep),
            oracle: Mutex::default(),
            ledger: Mutex::default(),
        });
        world.note(format_args!("seed {seed}: {may:?}"));
        Ok(world)
    }

    pub(crate) fn note(&self, what: std::fmt::Arguments<'_>) {
        self.trace.note(what);
    }

    pub(crate) fn trace(&self) -> &Trace {
        &self.trace
    }

    pub(crate) fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A promise was broken.
    pub(crate) fn broken(&self, what: String) {
        self.note(format_args!("BROKEN: {what}"));
        self.oracle().broken.push(what);
    }

    /// Whether the catalog fails now and then: not in the end.
    pub(crate) fn shaky(&self) -> bool {
        self.shaky.load(Ordering::Relaxed)
    }

    pub(crate) fn steady(&self) {
        self.shaky.store(false, Ordering::Relaxed);
    }

    /// How often the power came back.
    pub(crate) fn boot(&self) -> u64 {
        self.boot.load(Ordering::Relaxed)
    }

    pub(crate) fn lives(&self) -> MutexGuard<'_, Vec<Arc<Life>>> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the power is off, everything ends.
    pub(crate) fn look_at_the_power(&self) {
        if !self.power.is_off() {
            return;
        }
        self.note(format_args!("the power fails"));
        self.boot.fetch_add(1, Ordering::Relaxed);
        for life in self.lives().iter() {
            life.kill();
        }
        self.power.restore();
        for site in &self.sites {
            site.crash(&self.weather);
        }
    }

    pub(crate) fn jump(&self) {
        let hours = 1 + self.weather.below(3) as i64;
        let micros = hours * 3_600_000_000 * if self.weather.one_in(2) { 1 } else { -1 };
        self.note(format_args!("the clock jumps by {micros} µs"));
        self.clock.jump(micros);
    }

    pub(crate) fn settings(&self) -> ZonesSettings {
        ZonesSettings {
            grave_key: GraveKey::new([7; 32]),
            max_in_flight: 6,
            ..ZonesSettings::default()
        }
    }
}

impl House {
    fn new(chance: &Chance, now: Timestamp) -> anyhow::Result<Self> {
        let installation = InstallationSigner::generate(chance);
        let key = Signer::generate(chance);
        // The clock jumps by hours at most.
        let (from, until) = (
            Timestamp::from_micros(now.as_micros() - 86_400_000_000 * 30),
            now.plus(Duration::from_secs(86_400 * 30)),
        );
        let certificate = installation.certify(Role::Warehouse, key.public_key(), from, until);
        let signer = Arc::new(key.certified(certificate)?);
        Ok(Self {
            private: PrivateKey::generate(chance),
            installation,
            signer: SignerOf(Arc::new(move || Arc::clone(&signer))),
        })
    }
}
