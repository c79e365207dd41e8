//! What befalls zones.

use std::sync::Arc;
use std::time::Duration;

use base::time::sleep;

use crate::oracle::Fate;
use crate::site::{Condition, Site};
use crate::trace::short;
use crate::world::World;

/// Longer than a start that has begun to ask the zones takes to hear from all of them.
const HEARD: Duration = Duration::from_secs(30);

/// Longer than a write takes to be decided.
const DECIDED: Duration = Duration::from_secs(5);

/// Weather without end.
pub(crate) async fn rage(world: Arc<World>) {
    let chance = &world.weather;
    loop {
        sleep(chance.millis(100, 3_000)).await;
        if world.may.jump && chance.one_in(6) {
            world.jump();
        }
        if world.may.power && chance.one_in(8) {
            world.power.cut_after(1 + chance.below(400));
        }
        if world.may.destroy && chance.one_in(4) {
            destroy(&world).await;
            continue;
        }
        let Some(site) = chance.pick(&world.sites) else { continue };
        let condition = match chance.below(8) {
            0 => Condition::Down,
            1 => Condition::Full,
            2 => Condition::Hanging,
            3 => Condition::Slow,
            4 | 5 => Condition::Unclear,
            _ => Condition::Well,
        };
        world.note(format_args!("{} is {condition:?}", site.name));
        site.set(condition);
    }
}

/// All zones work again.
pub(crate) fn clear_up(world: &World) {
    world.note(format_args!("all zones are well"));
    world.power.restore();
    world.sites.iter().for_each(|site| site.set(Condition::Well));
}

/// One zone loses something, or becomes what it was.
async fn destroy(world: &World) {
    let (chance, site) = (&world.weather, &world.sites[world.victim]);
    if chance.one_in(3) {
        world.note(format_args!("{} is copied", site.name));
        site.copy().await;
        return;
    }
    if !world.may.wild {
        clear_up(world);
        // Whoever was told by another zone that it is away, and has yet to hear from this one, would miss both: two of three at once (as in
        // seed 119, where a start listed one zone while it was away and the other after its loss).
        sleep(HEARD).await;
    }
    let objects = site.objects().await;
    let deed = chance.below(5);
    let name = chance.pick(&objects);
    match (deed, name) {
        (4, _) if site.replace() => world.note(format_args!("{} is replaced by an empty one", site.name)),
        (0, _) => {
            world.note(format_args!("{} is what it was when it was copied", site.name));
            site.restore().await;
        }
        (1 | 2, Some(name)) => {
            world.note(format_args!("{} loses {}", site.name, short(name)));
            site.lose(name).await;
        }
        (_, Some(name)) => {
            world.note(format_args!("a bit of {} in {} is another", short(name), site.name));
            site.flip(name, chance).await;
        }
        _ => {}
    }
    if !world.may.wild {
        // Nothing else happens until what was kept is whole again. What was on its way to a majority when the zone lost its copy is accepted
        // after that, on the strength of what the zone had said before; so it is waited for first, or the zone's loss and the next zone's
        // absence would meet in one object: two of three, which nothing promises to survive.
        sleep(DECIDED).await;
        for _ in 0..60 {
            if is_whole(world, site).await {
                return;
            }
            sleep(chance.millis(900, 1_100)).await;
        }
    }
}

/// Whether a zone has good copies of all that was kept.
async fn is_whole(world: &World, site: &Site) -> bool {
    let kept = world.oracle().kept();
    for name in &kept {
        if site.read(name).await.is_none_or(|bytes| !name.is_name_of(&bytes)) && world.oracle().fate(name) == Some(Fate::Kept) {
            return false;
        }
    }
    for other in &world.sites {
        for name in other.objects().await {
            let good = site.read(&name).await.is_some_and(|bytes| name.is_name_of(&bytes));
            if name.is_below("raw") && !good {
                return false;
            }
        }
    }
    true
}
