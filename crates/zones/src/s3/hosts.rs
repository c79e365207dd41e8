//! Which addresses the names of stores have.
//!
//! A role in its sandbox opens no socket but TCP, so it cannot ask for names: whoever started it does, and tells it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

/// The names that somebody else looked up.
pub type Known = BTreeMap<String, Vec<IpAddr>>;

/// Where addresses of hosts come from. The default asks the system.
#[derive(Clone, Default)]
pub struct Hosts(Option<Arc<RwLock<Known>>>);

impl Hosts {
    /// These are known and no others; nothing is ever asked.
    pub fn given(known: Known) -> Self {
        Self(Some(Arc::new(RwLock::new(known))))
    }

    /// From now on these. Does nothing where the system is asked.
    pub fn replace(&self, known: Known) {
        if let Some(held) = &self.0 {
            *held.write().unwrap_or_else(PoisonError::into_inner) = known;
        }
    }

    pub(super) async fn of(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let unknown = || format!("no address of the host {host} is known");
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let found: Vec<SocketAddr> = match &self.0 {
            Some(held) => {
                let held = held.read().unwrap_or_else(PoisonError::into_inner);
                held.get(host)
                    .map(|all| all.iter().map(|ip| SocketAddr::new(*ip, port)).collect())
                    .unwrap_or_default()
            }
            None => tokio::net::lookup_host((host, port)).await.map_err(|_| unknown())?.collect(),
        };
        if found.is_empty() { Err(unknown()) } else { Ok(found) }
    }
}

impl PartialEq for Hosts {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Eq for Hosts {}

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Hosts(given)" } else { "Hosts(system)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_are_those_that_were_given_last() {
        let hosts = Hosts::given(Known::new());
        assert!(hosts.of("store.example", 443).await.unwrap_err().contains("store.example"));

        hosts.replace(Known::from([("store.example".into(), vec!["192.0.2.7".parse().unwrap()])]));
        assert_eq!(
            hosts.of("store.example", 443).await.unwrap(),
            ["192.0.2.7:443".parse::<SocketAddr>().unwrap()]
        );
        assert_eq!(hosts.of("::1", 9).await.unwrap(), ["[::1]:9".parse::<SocketAddr>().unwrap()]);
    }
}
