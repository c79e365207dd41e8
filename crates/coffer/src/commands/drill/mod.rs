//! `coffer zones drill`: zones are taken away or roles killed under load, and every acknowledged row is counted afterwards.
//!
//! Promise: what acknowledged a row is never asked whether it is there. At the end zones are taken away once more, and the role is killed
//! in the middle of the load, right after an acknowledgement and before the zones are back. What it knew is gone with it; rows are counted
//! in the answer of a process that has acknowledged none of them, and has nothing but what is in the zones and on the disk.
//!
//! Whatever comes between, the installation is left as it was: zones come back, by themselves if need be; the key is revoked, the database
//! deleted. What a drill that died left behind is removed by the next one.
//!
//! Start at [`run`]. The product, key and table are in [`stage`], the senders in [`load`], what is broken in [`target`], the sums in [`count`].

mod count;
mod load;
mod report;
mod stage;
mod target;

use std::fs::{File, TryLockError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::cli::Drill;
use crate::failure::{During, Exit, Failure, Outcome};
use crate::layout::Layout;
use crate::output::Format;
use crate::supervise::asked_to_stop;
use crate::terminal::say;
use count::Tally;
use load::Load;
use report::Report;
use stage::Stage;
use target::{Broken, Target};

/// How long what was broken may take to be whole again, beyond four times as long as it was broken.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the load may take until each sender is at work.
const WARM: Duration = Duration::from_secs(60);
/// How long the load goes on without the zones before the role is killed: until each sender had a few answers, but no longer.
const PROOF: Duration = Duration::from_secs(3);

/// Breaks, mends, counts, and tidies up.
pub(crate) async fn run(args: &Drill) -> Outcome {
    let layout = Layout::at(&args.data.data)?;
    let target = Target::find(&layout, args).await?;
    let _alone = alone(&layout)?;
    let mut stage = Stage::new(&layout, target.endpoint())?;
    let played = tokio::select! {
        played = Box::pin(play(args, &target, &mut stage)) => played,
        asked = asked_to_stop() => asked.and(Err(Failure::new(Exit::Failed, "the drill was broken off").why("it was asked to stop"))),
    };
    // Whatever happened: first the zones, without which the rest may not be possible.
    let back = target.bring_back().await.map(drop);
    let cleared = stage.clear().await;
    let ended = played.and_then(|report| {
        report.print(Format::chosen(args.output))?;
        report.verdict()
    });
    if ended.is_ok() {
        return back.and(cleared);
    }
    for also in [back, cleared].into_iter().filter_map(Result::err) {
        say(format_args!("warning: {}", also.in_one_line()));
    }
    ended
}

/// The one drill of an installation, as long as what is returned lives.
fn alone(layout: &Layout) -> Outcome<File> {
    let what = "could not begin the drill";
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(layout.drill_lock())
        .during(what)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Failure::new(Exit::Conflict, what)
            .why("another one goes on")
            .next("wait for its end")),
        Err(TryLockError::Error(error)) => Err(Failure::new(Exit::Failed, what).why(error)),
    }
}

async fn play(args: &Drill, target: &Target, stage: &mut Stage) -> Outcome<Report> {
    stage.set().await?;
    let mut load = Load::start(stage.client()?, stage.table(), args.rate, args.senders);
    load.each_took(1, WARM).await?;
    say(format_args!(
        "  {} senders send {} rows/s to the product {:?} through the public API",
        args.senders,
        args.rate,
        stage::PRODUCT
    ));

    load.measure();
    let broken = target.begin().await?;
    say(format_args!("  {}", target.in_words(args.length)));
    let until_mended = tokio::select! {
        () = sleep(args.length) => Ok(()),
        failed = target.stay_away() => failed,
        failed = load.failed() => failed,
    };
    until_mended?;
    let recovered = mended(args, target, &broken, &load).await?;
    load.each_took(1, WARM).await?;
    let measured = load.measured();

    say("  once more, and the role is killed right after an acknowledgement: what it has in memory only is gone");
    let begun = Instant::now();
    let again = prove(target, &load).await?;
    let sent = load.halt();
    mended(args, target, &again, &load).await?;
    say(format_args!(
        "  all is whole again after {:.1} s; counting",
        begun.elapsed().as_secs_f64()
    ));
    let patience = PATIENCE.max(args.length * 4);
    let tally = Tally::take(&mut stage.client()?, stage.table(), &sent, patience).await?;
    Ok(Report {
        killed: args.kill.join(","),
        role: target.role(),
        length: args.length,
        recovered,
        measured,
        tally,
    })
}

/// Brings the zones back and waits until nothing waits for them and what was killed is ready; how long that took.
async fn mended(args: &Drill, target: &Target, broken: &Broken, load: &Load) -> Outcome<Duration> {
    let begun = target.bring_back().await?;
    let patience = PATIENCE.max(args.length * 4);
    let whole = tokio::select! {
        whole = timeout(patience, target.is_whole(broken)) => whole,
        failed = load.failed() => return Err(failed.err().unwrap_or_else(|| Failure::new(Exit::Failed, "the load ended"))),
    };
    match whole {
        Ok(at) => Ok(at.saturating_duration_since(broken.mended_from(begun))),
        Err(_) => Err(Failure::new(Exit::Failed, "not all was whole again after the drill")
            .why(format!("waited {} s; {}", patience.as_secs(), target.missing(broken).await))
            .next("`coffer doctor` says how the zones and roles are")),
    }
}

/// Takes the zones away once more and kills the role in the middle of the load, before they are back.
async fn prove(target: &Target, load: &Load) -> Outcome<Broken> {
    target.take_away().await?;
    // Beside the rest: with roles alone to kill it has no zones to keep away, and never ends.
    tokio::select! {
        // Some answers later the role knows that they are away, and what was sent before is decided.
        _ = timeout(PROOF, load.answers(3)) => {}
        failed = target.stay_away() => failed?,
        failed = load.failed() => failed?,
    }
    let victims = target.victims().await?;
    // Where nothing can be acknowledged any more, nothing is waited for.
    let _refusing = timeout(PROOF, load.acknowledged()).await;
    target.kill(victims)
}
