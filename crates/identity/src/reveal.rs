//! Saying who somebody is, and what was sealed for them.
//!
//! Promise: it is said of one person in a call, for a pass with the verb *reveal* and for a reason, and of no more people in an hour than the settings
//! allow one credential. What is another's does not open, whatever the call says that it is. That the call is in the audit journal before it
//! comes here is for `edge` to see to.
//!
//! Start at [`People::reveal`]. How many there were in the last hour is known as long as the role runs, and to no file.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::{CredentialId, Op, PersonId, Secret, Timestamp, Verb};

use crate::people::{AskError, People};
use crate::personal;
use crate::ring::Known;

/// Sealed values in one call.
pub(crate) const MOST_VALUES: usize = 10_000;
/// Bytes of all sealed values in one call.
pub(crate) const MOST_BYTES: usize = 16 << 20;
const HOUR: Duration = Duration::from_secs(3_600);
/// How often a call begins anew when somebody is erased meanwhile.
const TRIES: usize = 5;

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) id: PersonId,
    /// The case that it is for.
    pub(crate) reason: String,
    /// Columns, in small letters, and what stands in them.
    pub(crate) values: Vec<(String, Vec<u8>)>,
}

/// What is said.
#[derive(Debug)]
pub(crate) struct Revealed {
    pub(crate) identities: Vec<Known>,
    /// In order; `None` for what was not sealed for this person and column.
    pub(crate) values: Vec<Option<Secret>>,
}

/// Why it is not said.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RevealError {
    #[error("a reason is needed, the name of a case such as ticket-4711: 3 to 64 of small letters, digits, '_', '-', '.' and ':'")]
    Reason,
    #[error("{values} sealed values of {bytes} bytes in one call, at most {MOST_VALUES} of {MOST_BYTES} bytes are possible")]
    TooMuch { values: usize, bytes: usize },
    #[error("this key was told of {most} people within an hour, which is all it may be (identity.reveals_per_hour); the next one in {} minutes", wait.as_secs().div_ceil(60))]
    TooMany { most: u32, wait: Duration },
}

impl RevealError {
    pub(crate) fn kind(&self) -> base::ErrorKind {
        match self {
            Self::Reason | Self::TooMuch { .. } => base::ErrorKind::Invalid,
            Self::TooMany { .. } => base::ErrorKind::TooMuch,
        }
    }
}

impl People {
    /// Who somebody is, and these values of theirs.
    pub(crate) async fn reveal(&self, op: &Op, pass: &[u8], asked: Asked) -> Result<Revealed, AskError> {
        op.authorize(Verb::Reveal)?;
        asked.check()?;
        self.reveals.admit(op.actor, asked.id, self.now())?;
        let _room = self.room(1 + asked.values.len()).await?;
        if !self.has_ledger(op.product) {
            self.keys(op, pass).await?;
            return Err(AskError::Nobody);
        }
        let (id, values) = (asked.id, Arc::new(asked.values));
        for _ in 0..TRIES {
            let ready = self.ready(op, pass).await?;
            let person = ready.ledger.persons(&ready.ring, &[id]).await?.remove(&id);
            let Some(person) = person else {
                if ready.is_current() {
                    return Err(AskError::Nobody);
                }
                continue;
            };
            let (keys, values) = (Arc::clone(&ready.keys), Arc::clone(&values));
            let open = move || {
                let open = |(column, sealed): &(String, Vec<u8>)| personal::open(&keys, Some((id, &person.key)), column, sealed).ok();
                Revealed {
                    values: values.iter().map(open).collect(),
                    identities: person.identities,
                }
            };
            let revealed = tokio::task::spawn_blocking(open).await.map_err(|_| AskError::Stopping)?;
            // Who was erased meanwhile is not spoken of any more.
            if ready.is_current() {
                tracing::info!(product.id = %op.product, credential.id = %op.actor, request.id = %op.request, "said who a person of product {} is", op.product);
                return Ok(revealed);
            }
        }
        Err(AskError::Changing)
    }
}

impl Asked {
    fn check(&self) -> Result<(), RevealError> {
        if !wire::audited::is_reason(&self.reason) {
            return Err(RevealError::Reason);
        }
        let bytes = self.values.iter().map(|(column, sealed)| column.len() + sealed.len()).sum();
        if self.values.len() > MOST_VALUES || bytes > MOST_BYTES {
            let values = self.values.len();
            return Err(RevealError::TooMuch { values, bytes });
        }
        Ok(())
    }
}

/// Of whom each credential was told in the last hour.
#[derive(Debug)]
pub(crate) struct Reveals {
    most: u32,
    told: Mutex<HashMap<CredentialId, HashMap<PersonId, Timestamp>>>,
}

impl Reveals {
    /// Of so many people an hour.
    pub(crate) fn allowing(most: u32) -> Self {
        Self {
            most,
            told: Mutex::default(),
        }
    }

    /// Counts a person for a credential. Whoever asked of the same person within the hour may ask on.
    fn admit(&self, who: CredentialId, id: PersonId, now: Timestamp) -> Result<(), RevealError> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, people| {
            people.retain(|_, at| now < at.plus(HOUR));
            !people.is_empty()
        });
        let people = told.entry(who).or_default();
        if people.contains_key(&id) {
            return Ok(());
        }
        if people.len() >= usize::try_from(self.most).unwrap_or(usize::MAX) {
            let next = people.values().min().map_or(now, |at| at.plus(HOUR));
            let wait = next.since(now);
            return Err(RevealError::TooMany { most: self.most, wait });
        }
        people.insert(id, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(id: i64) -> PersonId {
        PersonId::new(id).unwrap()
    }

    #[test]
    fn a_credential_is_told_of_so_many_people_an_hour_and_of_each_as_often_as_it_likes() {
        let reveals = Reveals::allowing(2);
        let [ada, other] = [1, 2].map(|byte| CredentialId::from_bytes([byte; 16]));
        let at = |minutes: i64| Timestamp::from_secs(1_000_000 + 60 * minutes);
        let ask = |who, id, minutes| reveals.admit(who, person(id), at(minutes));
        assert!(ask(ada, 1, 0).is_ok() && ask(ada, 2, 30).is_ok());
        assert!(ask(ada, 1, 40).is_ok() && ask(ada, 2, 41).is_ok(), "the same again");
        let refused = ask(ada, 3, 42).unwrap_err();
        assert_eq!(refused.kind(), base::ErrorKind::TooMuch);
        assert!(refused.to_string().contains("in 18 minutes"), "{refused}");
        assert!(ask(other, 3, 42).is_ok(), "others have hours of their own");
        assert!(
            ask(ada, 3, 60).is_ok(),
            "the first was an hour ago, asking again made it no younger"
        );
        assert!(ask(ada, 4, 61).is_err() && ask(ada, 4, 90).is_ok());
        assert!(ask(ada, 5, 0).is_err(), "a clock that was turned back gives nothing");
        assert!(ask(ada, 6, 200).is_ok());
        assert_eq!(reveals.told.lock().unwrap().len(), 1, "whose hour is over is forgotten");
    }

    #[test]
    fn none_allowed_is_none() {
        let reveals = Reveals::allowing(0);
        let refused = reveals.admit(CredentialId::from_bytes([1; 16]), person(1), Timestamp::from_secs(9));
        assert!(refused.is_err());
    }
}
