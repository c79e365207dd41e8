//! Segments of a journal, as they lie in zones that somebody else may own.
//!
//! Held: bytes that the journal's role did not sign are never a segment; a signed one opens as what was sealed or not at all; and a head
//! that is signed but in no form is an error.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base::{Clock, ManualClock, ProductId, Role, SeededEntropy, Timestamp, WriterId};
use bytes::Bytes;
use journal::{Entry, Journal, JournalParts, JournalSettings, Recovered, Segment, Tail, recover, survey};
use seal::{Domain, InstallationSigner, PrivateKey, Signer};
use tokio::runtime::Runtime;
use zones::{MemoryZone, ObjectName, Zone, Zones, ZonesSettings};

const JOURNAL: &str = "raw/7";
const NOW: Timestamp = Timestamp::from_secs(1_763_900_000);
const HEADER: &[u8] = b"a header";
const PAYLOAD: &[u8] = b"what an entry holds";
/// Magic and version, before the length of the head.
const MAGIC: usize = 8;

struct World {
    runtime: Runtime,
    installation: InstallationSigner,
    private: PrivateKey,
    signer: Arc<Signer>,
    /// The one segment there is.
    name: ObjectName,
    object: Bytes,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let chance = Arc::new(SeededEntropy::new(1));
    let installation = InstallationSigner::generate(&*chance);
    let private = PrivateKey::generate(&*chance);
    let uncertified = Signer::generate(&*chance);
    let certificate = installation.certify(
        Role::Warehouse,
        uncertified.public_key(),
        NOW,
        NOW.plus(Duration::from_secs(86_400)),
    );
    let signer = Arc::new(uncertified.certified(certificate).expect("the certificate is of this key"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("there are threads");
    let (name, object) = runtime.block_on(async {
        let (each, zones) = zones();
        let current = Arc::clone(&signer);
        let parts = JournalParts {
            zones,
            signer: Arc::new(move || Arc::clone(&current)),
            clock: clock(),
            entropy: Arc::clone(&chance) as Arc<dyn base::Entropy>,
        };
        let writer = WriterId::generate(NOW, &*chance);
        let settings = JournalSettings {
            commit_after: Duration::ZERO,
            ..JournalSettings::default()
        };
        let journal = Journal::start(parts, settings, JOURNAL, product(), private.public(), writer, Tail::default());
        let entry = Entry {
            header: Bytes::from_static(HEADER),
            payload: Bytes::from_static(PAYLOAD),
        };
        journal.append(entry).await.expect("the zones work");
        let name = each[0].objects().pop().expect("it is there");
        let object = each[0].get(&name, u64::MAX).await.expect("it is there");
        (name, object)
    });
    World {
        runtime,
        installation,
        private,
        signer,
        name,
        object,
    }
});

fn product() -> Option<ProductId> {
    ProductId::new(7).ok()
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::at(NOW))
}

fn zones() -> (Vec<Arc<MemoryZone>>, Arc<Zones>) {
    let each: Vec<_> = ["a", "b", "c"].map(|name| Arc::new(MemoryZone::new(name))).into();
    let dynamic = each.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect();
    let zones = Zones::new(dynamic, ZonesSettings::default(), clock());
    (each, zones)
}

/// Takes any bytes: the first says as what the others are taken.
pub fn one(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else { return };
    match kind {
        b'o' => beside(rest),
        b'e' => in_place(&crate::edited(&WORLD.object, rest)),
        b'h' => signed(rest),
        _ => {}
    }
}

/// An object that nobody signed, under the name of the next segment.
fn beside(object: &[u8]) {
    let world = &*WORLD;
    let next = world.name.id().replace("-0000000000000000-", "-0000000000000001-");
    assert_ne!(next, world.name.id(), "the form of the names has changed");
    let found = world.read(&[(world.name.id(), &world.object), (&next, object)]);
    let Ok((recovered, zones)) = found else { return };
    assert_eq!(recovered.segments.len(), 1, "nothing but the one that was signed");
    assert_eq!(world.opened(&recovered.segments[0], &zones).as_deref(), Some(PAYLOAD));
}

/// The one segment, changed.
fn in_place(object: &[u8]) {
    let world = &*WORLD;
    let Ok((recovered, zones)) = world.read(&[(world.name.id(), object)]) else {
        return;
    };
    for segment in &recovered.segments {
        assert!(segment.headers == [HEADER], "a header was changed");
        let opened = world.opened(segment, &zones);
        assert!(opened.is_none_or(|opened| opened == PAYLOAD), "a payload was changed");
    }
}

/// A head that was signed, with the payload that was sealed for another or the same.
fn signed(head: &[u8]) {
    let world = &*WORLD;
    let old = usize::try_from(u32::from_le_bytes(world.object[MAGIC..MAGIC + 4].try_into().expect("four bytes"))).expect("it fits");
    let head = seal::sign(&world.signer, Domain::SEGMENT, head);
    let length = u32::try_from(head.len()).expect("it is short").to_le_bytes();
    let object = [&world.object[..MAGIC], &length, &head, &world.object[MAGIC + 4 + old..]].concat();
    let Ok((recovered, zones)) = world.read(&[(world.name.id(), &object)]) else {
        return;
    };
    for segment in &recovered.segments {
        let opened = world.opened(segment, &zones);
        assert!(opened.is_none_or(|opened| opened == PAYLOAD), "more or less than was sealed");
    }
}

impl World {
    /// What is recovered where these objects lie, and what is left of it where that is refused.
    fn read(&self, objects: &[(&str, &[u8])]) -> Result<(Recovered, Arc<Zones>), String> {
        let key = self.installation.key();
        self.runtime.block_on(async {
            let (each, zones) = zones();
            for (id, object) in objects {
                let name = ObjectName::new(self.name.prefix(), id, object).map_err(|error| error.to_string())?;
                each.iter().for_each(|zone| zone.plant(&name, Bytes::copy_from_slice(object)));
            }
            let recovered = match recover(&zones, &key, Role::Warehouse, JOURNAL, product()).await {
                Ok(recovered) => recovered,
                Err(_) => survey(&zones, &key, Role::Warehouse, JOURNAL, product())
                    .await
                    .map_err(|error| error.to_string())?,
            };
            Ok((recovered, zones))
        })
    }

    fn opened(&self, segment: &Segment, zones: &Zones) -> Option<Vec<u8>> {
        let entries = self.runtime.block_on(segment.open(zones, &self.private)).ok()?;
        Some(entries.iter().flat_map(|entry| entry.payload.iter().copied()).collect())
    }
}

/// Bytes to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let world = &*WORLD;
    let length = usize::try_from(u32::from_le_bytes(world.object[MAGIC..MAGIC + 4].try_into().expect("four bytes"))).expect("it fits");
    let head = &world.object[MAGIC + 4..MAGIC + 4 + length];
    let verified = seal::verify(&world.installation.key(), Domain::SEGMENT, Role::Warehouse, head).expect("it was signed");
    let tagged = |tag: u8, bytes: &[u8]| [&[tag], bytes].concat();
    vec![
        tagged(b'o', &world.object),
        tagged(b'o', &world.object[..40]),
        tagged(b'e', &[9, 0, 1]),
        tagged(b'e', &[40, 0, 64]),
        tagged(b'e', &[255, 1, 2]),
        tagged(b'h', &verified.payload),
    ]
}
