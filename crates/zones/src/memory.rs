//! A zone in memory that fails when it is told to.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use crate::{ObjectName, Zone, ZoneError};

/// A zone in memory, for tests: it can go down, hang, fail once and corrupt what it holds.
#[derive(Debug)]
pub struct MemoryZone {
    name: String,
    state: Mutex<State>,
    hanging: watch::Sender<bool>,
    holding_puts: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<ObjectName, Bytes>,
    down: Option<String>,
    failing_puts: usize,
    puts_before_failure: Option<(usize, usize)>,
    unclear_puts: usize,
    lost_puts: usize,
    networked: bool,
    joining: bool,
}

impl MemoryZone {
    /// An empty zone that works.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: Mutex::default(),
            hanging: watch::Sender::new(false),
            holding_puts: watch::Sender::new(false),
        }
    }

    /// From now on everything is refused.
    pub fn go_down(&self) {
        self.state().down = Some("it was told to be down".into());
    }

    /// From now on nothing is answered.
    pub fn hang(&self) {
        self.hanging.send_replace(true);
    }

    /// It works again; what hung goes on.
    pub fn come_back(&self) {
        self.state().down = None;
        self.hanging.send_replace(false);
    }

    /// From now on writes stay on their way; everything else is answered.
    pub fn hold_puts(&self) {
        self.holding_puts.send_replace(true);
    }

    /// The writes that were on their way arrive.
    pub fn let_puts_arrive(&self) {
        self.holding_puts.send_replace(false);
    }

    /// The next `count` writes fail and change nothing.
    pub fn fail_next_puts(&self, count: usize) {
        self.state().failing_puts = count;
    }

    /// After `count` more writes the next one fails and changes nothing.
    pub fn fail_put_after(&self, count: usize) {
        self.fail_puts_after(count, 1);
    }

    /// After `count` more writes the next `failing` fail and change nothing.
    pub fn fail_puts_after(&self, count: usize, failing: usize) {
        self.state().puts_before_failure = Some((count, failing));
    }

    /// The next `count` writes are done and fail nevertheless.
    pub fn do_and_deny_next_puts(&self, count: usize) {
        self.state().unclear_puts = count;
    }

    /// Nobody can say of the next `count` writes whether they were done, and they were not.
    pub fn lose_next_puts(&self, count: usize) {
        self.state().lost_puts = count;
    }

    /// Whether an error is the end of it, as in a directory, or not, as behind a network.
    pub fn set_final(&self, is_final: bool) {
        self.state().networked = !is_final;
    }

    /// It is lost, and an empty one is put in its place.
    pub fn replace(&self) {
        let mut state = self.state();
        state.objects.clear();
        state.joining = true;
    }

    /// Flips a bit of an object. Returns whether it was there.
    pub fn corrupt(&self, name: &ObjectName) -> bool {
        self.change(name, |bytes| {
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 1;
            }
        })
    }

    /// Cuts an object's last byte off. Returns whether it was there.
    pub fn truncate(&self, name: &ObjectName) -> bool {
        self.change(name, |bytes| bytes.truncate(bytes.len().saturating_sub(1)))
    }

    /// Loses an object. Returns whether it was there.
    pub fn lose(&self, name: &ObjectName) -> bool {
        self.state().objects.remove(name).is_some()
    }

    /// Places bytes under a name without looking at either, as an intruder would.
    pub fn plant(&self, name: &ObjectName, bytes: Bytes) {
        self.state().objects.insert(name.clone(), bytes);
    }

    /// The bytes it holds under a name, down or not.
    pub fn held(&self, name: &ObjectName) -> Option<Bytes> {
        self.state().objects.get(name).cloned()
    }

    /// Whether it holds an object, down or not.
    pub fn holds(&self, name: &ObjectName) -> bool {
        self.state().objects.contains_key(name)
    }

    /// The names of all it holds, graves included, down or not.
    pub fn objects(&self) -> Vec<ObjectName> {
        self.state().objects.keys().cloned().collect()
    }

    fn change(&self, name: &ObjectName, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.state();
        let Some(held) = state.objects.get_mut(name) else { return false };
        let mut bytes = held.to_vec();
        change(&mut bytes);
        *held = bytes.into();
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while the zone hangs, then gives access unless it is down.
    async fn enter(&self) -> Result<MutexGuard<'_, State>, ZoneError> {
        // The sender lives as long as `self`, so waiting ends only with the hanging.
        let _ = self.hanging.subscribe().wait_for(|hanging| !hanging).await;
        let state = self.state();
        match &state.down {
            Some(detail) => Err(ZoneError::Down {
                zone: self.name.clone(),
                detail: detail.clone(),
            }),
            None => Ok(state),
        }
    }

    fn missing(&self, name: &ObjectName) -> ZoneError {
        ZoneError::NotFound {
            zone: self.name.clone(),
            name: name.clone(),
        }
    }
}

#[async_trait]
impl Zone for MemoryZone {
    fn name(&self) -> &str {
        &self.name
    }

    async fn put(&self, name: &ObjectName, bytes: Bytes) -> Result<(), ZoneError> {
        // The sender lives as long as `self`, so waiting ends only with the holding.
        let _ = self.holding_puts.subscribe().wait_for(|holding| !holding).await;
        let mut state = self.enter().await?;
        match state.puts_before_failure {
            Some((0, failing)) => {
                state.puts_before_failure = None;
                state.failing_puts += failing;
            }
            Some((count, failing)) => state.puts_before_failure = Some((count - 1, failing)),
            None => {}
        }
        if state.failing_puts > 0 {
            state.failing_puts -= 1;
            return Err(ZoneError::Down {
                zone: self.name.clone(),
                detail: "it was told to fail".into(),
            });
        }
        if state.lost_puts > 0 {
            state.lost_puts -= 1;
            return Err(ZoneError::Unclear {
                zone: self.name.clone(),
                detail: "it was told to lose it".into(),
            });
        }
        state.objects.insert(name.clone(), bytes);
        if state.unclear_puts > 0 {
            state.unclear_puts -= 1;
            return Err(ZoneError::Unclear {
                zone: self.name.clone(),
                detail: "it was told to deny".into(),
            });
        }
        Ok(())
    }

    async fn get(&self, name: &ObjectName, most: u64) -> Result<Bytes, ZoneError> {
        let held = self.enter().await?.objects.get(name).cloned();
        let bytes = held.ok_or_else(|| self.missing(name))?;
        let length = bytes.len() as u64;
        if length > most {
            return Err(ZoneError::Long {
                zone: self.name.clone(),
                name: name.clone(),
                length,
                most,
            });
        }
        Ok(bytes)
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, ZoneError> {
        let bytes = self.get(name, u64::MAX).await?;
        let length = bytes.len() as u64;
        if range.start > range.end || range.end > length {
            return Err(ZoneError::Short {
                zone: self.name.clone(),
                name: name.clone(),
                length,
                wanted: range.end,
            });
        }
        // Both ends are at most the length of something in memory.
        Ok(bytes.slice(range.start as usize..range.end as usize))
    }

    async fn list_page(&self, prefix: &str, after: &str, most: usize) -> Result<Vec<ObjectName>, ZoneError> {
        Ok(self
            .enter()
            .await?
            .objects
            .keys()
            .filter(|name| name.is_below(prefix) && name.as_str() > after)
            .take(most)
            .cloned()
            .collect())
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), ZoneError> {
        self.enter().await?.objects.remove(name);
        Ok(())
    }

    async fn probe(&self) -> Result<(), ZoneError> {
        self.enter().await.map(drop)
    }

    fn is_final(&self) -> bool {
        !self.state().networked
    }

    fn is_complete(&self) -> bool {
        !self.state().joining
    }

    async fn set_complete(&self) -> Result<(), ZoneError> {
        self.enter().await?.joining = false;
        Ok(())
    }
}
