//! One simulation from beginning to end: some lives one after the other in all weathers, then a quiet end in which everything is checked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base::time::{SimulatedTime, sleep, timeout};
use zones::ObjectName;

use crate::chaos;
use crate::life::Life;
use crate::oracle::{Fate, Told};
use crate::plant::Plant;
use crate::process::Process;
use crate::trace::short;
use crate::world::{JOURNAL, World};

/// Longer than any simulation takes, in simulated time.
const MOST: Duration = Duration::from_secs(6 * 3600);

/// What became of a simulation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its number.
    pub seed: u64,
    /// The same for the same seed and the same code.
    pub digest: String,
    /// How many things happened.
    pub steps: u64,
    /// How many entries were accepted, refused, and neither.
    pub entries: [usize; 3],
    /// The same of files, and how many were deleted.
    pub files: [usize; 4],
    /// How often a process started, and how often it could not.
    pub starts: [u64; 2],
    /// Of a product: batches that were accepted, and objects in the zones that nothing refers to.
    pub product: [usize; 2],
    /// Which promises were broken.
    pub broken: Vec<String>,
    /// What happened, if that was asked for.
    pub lines: Vec<String>,
}

/// Runs one simulation on this thread. With `keep`, its trace is kept.
pub fn run(seed: u64, plant: Option<Plant>, keep: bool) -> anyhow::Result<Outcome> {
    let _time = SimulatedTime::enter();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .on_thread_park(|| {
            SimulatedTime::advance();
        })
        .build()?;
    let world = World::new(seed, plant, keep)?;
    runtime.block_on(async {
        if timeout(MOST, Box::pin(story(&world))).await.is_err() {
            world.broken("it does not come to an end".into());
        }
    });
    drop(runtime);
    let (digest, steps) = world.trace().digest();
    let oracle = world.oracle();
    let entries = |told: fn(&Told) -> bool| oracle.sent.values().filter(|sent| told(&sent.told)).count();
    let files = |fates: &[Fate]| oracle.files.values().filter(|file| fates.contains(&file.fate)).count();
    Ok(Outcome {
        seed,
        digest,
        steps,
        entries: [
            entries(|told| matches!(told, Told::Accepted(_))),
            entries(|told| *told == Told::Refused),
            entries(|told| *told == Told::Nothing),
        ],
        files: [
            files(&[Fate::Kept]),
            files(&[Fate::Refused]),
            files(&[Fate::Perhaps, Fate::Going]),
            files(&[Fate::Deleted]),
        ],
        starts: [oracle.starts, oracle.refused_starts],
        product: world.ledger().totals(),
        broken: oracle.broken.clone(),
        lines: world.trace().lines(),
    })
}

async fn story(world: &Arc<World>) {
    let weather = tokio::spawn(chaos::rage(Arc::clone(world)));
    let lives = 2 + world.deeds.below(4);
    for number in 0..lives {
        let steps = match world.deeds.below(4) {
            0 => 1 + world.deeds.below(60),
            1 => 1 + world.deeds.below(600),
            2 => 1 + world.deeds.below(3_000),
            _ => u64::MAX,
        };
        let life = begin(world, number, steps);
        let mut process = tokio::spawn(Process::new(world, &life).live());
        let lingers = world.may.linger && world.deeds.one_in(2);
        let time = if lingers {
            world.deeds.millis(500, 6_000)
        } else {
            Duration::from_secs(300)
        };
        if timeout(time, &mut process).await.is_err() && !lingers {
            life.kill();
        }
        // One that has written nothing yet is known to nobody, and cannot be told from its successor by anything but the clock.
        while lingers && life.is_alive() && !life.has_written.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(100)).await;
        }
        sleep(world.deeds.millis(1, 3_000)).await;
    }
    weather.abort();
    chaos::clear_up(world);
    world.steady();
    // Whoever lingers comes to his end, and what is under way arrives.
    sleep(Duration::from_secs(120)).await;
    world.lives().iter().for_each(|life| life.kill());
    sleep(Duration::from_secs(60)).await;
    end(world, lives).await;
}

fn begin(world: &World, number: u64, steps: u64) -> Arc<Life> {
    let life = Arc::new(Life::new(number, steps));
    world.note(format_args!("{number} begins and has {steps} steps"));
    world.oracle().starts += 1;
    world.lives().push(Arc::clone(&life));
    life
}

/// All zones are back: everything has to be there, and nothing else.
async fn end(world: &Arc<World>, number: u64) {
    let life = begin(world, number, u64::MAX);
    let process = Process::new(world, &life);
    let Ok(Some((recovered, found))) = timeout(Duration::from_secs(600), process.recover()).await else {
        world.broken("with all zones back the journal cannot be recovered".into());
        return;
    };
    // Nothing is under way any more that could arrive.
    process.stays();
    if world.may.product {
        process.take_stock(&recovered, &found).await;
    }
    // Reading repairs; what is compared is copied.
    let files: Vec<(ObjectName, Fate)> = world.oracle().files.iter().map(|(name, file)| (name.clone(), file.fate)).collect();
    sleep(Duration::from_secs(30)).await;
    for (name, fate) in &files {
        let read = process.zones.get(name, 1 << 20).await;
        let word = match (fate, &read) {
            (Fate::Kept, Err(error)) => format!("was kept: {}", crate::process::without_digests(&error.to_string())),
            (Fate::Refused, Ok(_)) => "was refused and is there".to_owned(),
            (Fate::Deleted, Ok(_)) => "was deleted and is there".to_owned(),
            _ => continue,
        };
        world.broken(format!("in the end, {} {word}", short(name)));
    }
    for prefix in [JOURNAL, "tables/7"] {
        for object in process.zones.list(prefix).await.unwrap_or_default() {
            process.zones.report_corrupt(&object.name).await;
        }
    }
    sleep(Duration::from_secs(30)).await;
    let mut held: Vec<BTreeSet<ObjectName>> = Vec::new();
    for site in &world.sites {
        held.push(site.objects().await.into_iter().collect());
    }
    let all: BTreeSet<&ObjectName> = held.iter().flatten().collect();
    for name in all {
        let holders = held.iter().filter(|site| site.contains(name)).count();
        let fate = world.oracle().fate(name);
        if matches!(fate, Some(Fate::Refused | Fate::Deleted)) {
            world.broken(format!("in the end, {} is {fate:?} and in {holders} zones", short(name)));
            continue;
        }
        // What is in a grave says nothing; its name does.
        let grave = name.as_str().starts_with("tombstones");
        let mut good = 0;
        for site in &world.sites {
            let copy = site.read(name).await;
            good += usize::from(copy.is_some_and(|bytes| grave || name.is_name_of(&bytes)));
        }
        // Of what nobody has been told of the only copy may be lost; of what was, another check has told.
        if good > 0 && good < held.len() {
            world.broken(format!(
                "in the end, {} is in {holders} zones, {good} of the copies are good",
                short(name)
            ));
        }
    }
    // And once more, as the next process finds it.
    process.stop();
    let next = Arc::new(Life::new(number + 1, u64::MAX));
    world.lives().push(Arc::clone(&next));
    let process = Process::new(world, &next);
    if timeout(Duration::from_secs(600), process.recover()).await.is_err() {
        world.broken("the journal cannot be recovered a second time".into());
    }
    process.stop();
}
