use base::{Clock, ManualClock, SeededEntropy};

use super::*;

fn product() -> ProductId {
    ProductId::new(7).unwrap()
}

struct World {
    clock: Arc<ManualClock>,
    watch: Arc<Watch>,
    leases: Leases,
    key: PrivateKey,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        let watch = Watch::new(Arc::clone(&clock) as Arc<dyn Clock>);
        watch.hear(Role::Vault);
        watch.hear(Role::Accounts);
        Self {
            leases: Leases::new(Some(Arc::clone(&watch)), query::FooterRoom::new(1 << 20)),
            watch,
            clock,
            key: PrivateKey::generate(&SeededEntropy::new(1)),
        }
    }

    fn hold(&self, actor: CredentialId) -> Result<Reading, LeaseError> {
        self.leases.hold(product(), actor, self.key.clone(), self.a_minute())
    }

    fn a_minute(&self) -> Term {
        let from = self.clock.now();
        let until = from.plus(Duration::from_secs(60));
        Term { from, until }
    }
}

fn credential(number: u8) -> CredentialId {
    CredentialId::from_bytes([number; 16])
}

#[test]
fn a_lease_that_the_vault_gave_just_before_the_revocation_was_heard_is_not_held() {
    let world = World::new();
    // The vault's answer is on its way while the revocation overtakes it.
    world.watch.note(credential(1));
    world.leases.revoke(credential(1));

    let refused = world.hold(credential(1)).unwrap_err();

    assert_eq!(refused.kind(), ErrorKind::Unauthenticated);
    assert!(world.leases.alive(product()).is_none());
}

#[test]
fn a_revocation_ends_every_reading_of_its_credential_and_no_other() {
    let world = World::new();
    let (revoked, again, other) = (
        world.hold(credential(1)).unwrap(),
        world.hold(credential(1)).unwrap(),
        world.hold(credential(2)).unwrap(),
    );
    let (_, nobody) = world.leases.alive(product()).unwrap();

    world.leases.revoke(credential(1));

    assert!(revoked.has_ended() && again.has_ended() && !other.has_ended());
    assert!(!nobody.is_cancelled() && world.leases.alive(product()).is_some());
    world.leases.revoke(credential(2));
    assert!(other.has_ended() && nobody.is_cancelled() && world.leases.alive(product()).is_none());
}

#[test]
fn what_reads_on_after_its_lease_ran_out_is_ended_by_a_revocation_all_the_same() {
    let world = World::new();
    let reading = world.hold(credential(1)).unwrap();
    world.clock.advance(Duration::from_secs(61));
    world.leases.sweep(world.clock.now());
    assert!(world.leases.alive(product()).is_none() && !reading.has_ended());

    world.leases.revoke(credential(1));

    assert!(reading.has_ended());
}

#[tokio::test]
async fn while_revocations_are_not_heard_nobody_reads() {
    let world = World::new();
    let reading = world.hold(credential(1)).unwrap();

    world.leases.clear();
    assert_eq!(reading.while_it_lasts(async {}).await, Err(Ended::Unheard));

    world.clock.advance(Duration::from_secs(60));
    assert_eq!(world.hold(credential(1)).unwrap_err().kind(), ErrorKind::Unavailable);
    let deaf = Leases::new(None, query::FooterRoom::new(1 << 20));
    assert!(deaf.hold(product(), credential(1), world.key.clone(), world.a_minute()).is_err());
}

#[test]
fn a_clock_that_is_turned_back_makes_no_lease_longer() {
    let world = World::new();
    world.hold(credential(1)).unwrap();
    assert!(world.leases.held(product(), credential(1), world.clock.now()).is_some());

    world.clock.turn_back(Duration::from_secs(3600));

    assert!(world.leases.held(product(), credential(1), world.clock.now()).is_none());
    world.leases.sweep(world.clock.now());
    assert!(world.leases.alive(product()).is_none());
}
