//! Every socket of the installation, bound by the supervisor and kept: while a role restarts, callers wait instead of being refused.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use base::Role;

use crate::config::Listen;
use crate::failure::{During, Exit, Failure, Outcome};
use crate::handover::Listening;
use crate::layout::Layout;

/// What is bound.
#[derive(Debug)]
pub(crate) struct Listeners {
    internal: BTreeMap<Role, TcpListener>,
    operator: BTreeMap<Role, UnixListener>,
    /// None while nothing is served to the world.
    public: Option<TcpListener>,
    plain: Option<TcpListener>,
    /// Where the roles call each other.
    pub(crate) peers: BTreeMap<Role, SocketAddr>,
    /// Where the world calls.
    pub(crate) public_address: SocketAddr,
    /// The plain HTTP port.
    pub(crate) plain_address: Option<SocketAddr>,
}

impl Listeners {
    /// Binds everything, or says which address is taken.
    pub(crate) fn bind(listen: &Listen, layout: &Layout) -> Outcome<Self> {
        let (public, public_address) = tcp(listen.public, "the public listener", "listen.public (for the demo: --port)")?;
        let plain = listen
            .plain
            .map(|address| tcp(address, "the plain HTTP listener", "listen.plain"))
            .transpose()?;
        let inner = Self::inner(listen, layout, &Role::ALL)?;
        let (plain, plain_address) = plain.map_or((None, None), |(listener, address)| (Some(listener), Some(address)));
        Ok(Self {
            public: Some(public),
            plain,
            public_address,
            plain_address,
            ..inner
        })
    }

    /// Binds what these roles call each other by, and nothing for the world.
    pub(crate) fn inner(listen: &Listen, layout: &Layout, roles: &[Role]) -> Outcome<Self> {
        let mut inner = Self {
            internal: BTreeMap::new(),
            operator: BTreeMap::new(),
            public: None,
            plain: None,
            peers: BTreeMap::new(),
            public_address: SocketAddr::from(([0, 0, 0, 0], 0)),
            plain_address: None,
        };
        for role in roles.iter().copied() {
            let setting = format!("listen.{role}");
            let (listener, address) = tcp(listen.internal(role), &format!("the {role} role"), &setting)?;
            inner.internal.insert(role, listener);
            inner.peers.insert(role, address);
            inner.operator.insert(role, unix(layout, role)?);
        }
        Ok(inner)
    }

    /// Listeners of the same kinds that nobody calls, for processes that are to have what a role has and not to serve. Who calls whom is
    /// said by `peers`.
    pub(crate) fn further(layout: &Layout, peers: BTreeMap<Role, SocketAddr>) -> Outcome<Self> {
        let what = "could not make listeners for the drill";
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let (public, public_address) = tcp(loopback, "the drill", "--data")?;
        let mut further = Self {
            internal: BTreeMap::new(),
            operator: BTreeMap::new(),
            public: Some(public),
            plain: None,
            peers,
            public_address,
            plain_address: None,
        };
        for role in Role::ALL {
            further.internal.insert(role, tcp(loopback, "the drill", "--data")?.0);
            // Its name goes at once: nobody is to call there.
            let directory = tempfile::Builder::new().prefix(".breach-").tempdir_in(layout.run()).during(what)?;
            let place = fs::File::open(directory.path()).during(what)?;
            let path = format!("/proc/self/fd/{}/socket", std::os::fd::AsRawFd::as_raw_fd(&place));
            further.operator.insert(role, UnixListener::bind(path).during(what)?);
        }
        Ok(further)
    }

    /// A role's own: internal, operator, and for the gateway what the world uses, in this order.
    pub(crate) fn of(&self, role: Role) -> Outcome<(Vec<OwnedFd>, Vec<Listening>)> {
        let what = || format!("could not pass the listeners to the {role} role");
        let (Some(internal), Some(operator)) = (self.internal.get(&role), self.operator.get(&role)) else {
            return Err(Failure::new(Exit::Failed, what()));
        };
        let mut fds = vec![
            internal.try_clone().during(what())?.into(),
            operator.try_clone().during(what())?.into(),
        ];
        let mut names = Vec::new();
        if let Some(public) = self.public.as_ref().filter(|_| role == Role::Gateway) {
            fds.push(public.try_clone().during(what())?.into());
            names.push(Listening::Public);
            if let Some(plain) = &self.plain {
                fds.push(plain.try_clone().during(what())?.into());
                names.push(Listening::Plain);
            }
        }
        Ok((fds, names))
    }
}

fn tcp(address: SocketAddr, who: &str, setting: &str) -> Outcome<(TcpListener, SocketAddr)> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    bound.map_err(|error| {
        let (exit, next) = match error.kind() {
            std::io::ErrorKind::AddrInUse => (
                Exit::Conflict,
                format!("stop what uses it, or choose another with {setting}; port 0 takes any"),
            ),
            std::io::ErrorKind::PermissionDenied => (Exit::NotAllowed, format!("choose a port above 1023 with {setting}")),
            _ => (Exit::Failed, format!("choose another address with {setting}")),
        };
        Failure::new(exit, format!("{who} could not listen on {address}"))
            .why(error)
            .next(next)
    })
}

fn unix(layout: &Layout, role: Role) -> Outcome<UnixListener> {
    let path = layout.socket(role);
    let what = || format!("could not make the socket {}", path.display());
    // We hold the lock of the data directory: whatever is there is left over.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).during(what()),
        _ => {}
    }
    let listener = UnixListener::bind(layout.short_socket(role)).during(what())?;
    // Nobody else came in between: the directory around it is the owner's alone.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).during(what())?;
    Ok(listener)
}
