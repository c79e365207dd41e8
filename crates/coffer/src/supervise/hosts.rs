//! Names of stores, looked up for roles that cannot ask for them in their sandbox, and looked up again while they run.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use base::Role;
use futures::future::join_all;
use tokio::sync::mpsc;
use zones::s3::Known;

use crate::config::Config;

/// Stores at large move every few minutes, and leave their old addresses working for longer than this.
const AGAIN: Duration = Duration::from_secs(30);
/// After how long a name without an address is asked for again.
const MISSING: Duration = Duration::from_secs(3);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The names of the stores of a role.
pub(super) fn names(role: Role, config: &Config) -> BTreeSet<String> {
    let of_role = config.shape.zones().into_iter().filter(|(other, _)| *other == role);
    let hosts = of_role.flat_map(|(_, settings)| settings.stores());
    let hosts = hosts.map(|address| address.host().to_owned());
    hosts.filter(|host| host.parse::<IpAddr>().is_err()).collect()
}

/// Their addresses now. A name that has none keeps those of before.
pub(super) async fn look_up(names: &BTreeSet<String>, before: &Known) -> Known {
    let found = join_all(names.iter().map(|name| async move { (name, addresses(name).await) })).await;
    let mut known = Known::new();
    for (name, addresses) in found {
        match (addresses.is_empty(), before.get(name)) {
            (false, _) => drop(known.insert(name.clone(), addresses)),
            (true, Some(old)) => drop(known.insert(name.clone(), old.clone())),
            (true, None) => tracing::warn!("the host {name} of a zone has no address, asking again"),
        }
    }
    known
}

/// Tells of other addresses, for as long as somebody listens.
pub(super) fn watch(names: BTreeSet<String>, mut known: Known) -> mpsc::Receiver<Known> {
    let (tell, told) = mpsc::channel(1);
    if names.is_empty() {
        return told;
    }
    tokio::spawn(async move {
        loop {
            let pause = if known.len() < names.len() { MISSING } else { AGAIN };
            tokio::select! {
                () = tell.closed() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let now = look_up(&names, &known).await;
            if now != known {
                known.clone_from(&now);
                if tell.send(now).await.is_err() {
                    return;
                }
            }
        }
    });
    told
}

async fn addresses(name: &str) -> Vec<IpAddr> {
    // The port is of no matter here.
    let asked = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((name, 443))).await;
    let Ok(Ok(found)) = asked else { return Vec::new() };
    // In order, so that the same addresses are the same answer.
    let addresses: BTreeSet<IpAddr> = found.map(|address| address.ip()).collect();
    addresses.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[tokio::test]
    async fn names_of_stores_are_looked_up_and_addresses_are_not() {
        let text = "[warehouse.zones]\nzones = [
            {name='a', url='https://localhost:1/events', credentials='/k'},
            {name='b', url='https://127.0.0.1:1/events', credentials='/k'},
            {name='c', url='https://nowhere.invalid/events', credentials='/k'}]\n";
        let config = Config::from_parts(Some((Path::new("c"), text)), &[], None).unwrap();
        let names = names(Role::Warehouse, &config);
        assert_eq!(names.iter().collect::<Vec<_>>(), ["localhost", "nowhere.invalid"]);
        assert!(super::names(Role::Vault, &config).is_empty());

        let before = Known::from([("nowhere.invalid".to_owned(), vec!["192.0.2.1".parse().unwrap()])]);
        let known = look_up(&names, &before).await;
        assert!(known["localhost"].iter().all(IpAddr::is_loopback), "{known:?}");
        assert_eq!(known["nowhere.invalid"], before["nowhere.invalid"]);
    }
}
