//! What records have beside their values: an id, and perhaps the address that they came from.

use super::{Rows, Slot, Stop, Value};
use crate::decode::records::{ADDRESS, Address, RecordId, Records, UUID};

/// What rows get beside their values, and what is kept of each.
pub(super) struct Beside {
    /// Whether `uuid` is the id of a record, and not a column of people.
    pub(super) with_ids: bool,
    /// The address to fill in, and whether also where nothing is said.
    pub(super) address: Option<(String, bool)>,
    /// The id of each row so far, those that were set aside included.
    pub(super) ids: Vec<Option<RecordId>>,
    /// Of the row in hand.
    id: Option<RecordId>,
    /// Whether the row in hand has said its address, or has been given it.
    addressed: bool,
}

impl Beside {
    pub(super) fn new(records: Records, with_ids: bool) -> Self {
        let address = match records.address {
            Address::Untold => None,
            Address::WhereAsked(address) => Some((address.to_canonical().to_string(), false)),
            Address::Everywhere(address) => Some((address.to_canonical().to_string(), true)),
        };
        Self {
            with_ids,
            address,
            ids: Vec::new(),
            id: None,
            addressed: false,
        }
    }

    pub(super) fn begin(&mut self) {
        self.id = None;
        self.addressed = false;
    }
}

impl Rows<'_> {
    /// What is no id stays a value under its name.
    pub(super) fn id(&mut self, value: Value<'_>) -> Result<(), Stop> {
        let id = match value {
            Value::Text(text) => RecordId::parse(text),
            _ => None,
        };
        if let Some(beside) = &mut self.beside {
            beside.id = id;
        }
        if id.is_some() || matches!(value, Value::Null) {
            return Ok(());
        }
        let slot = self.column(UUID.as_bytes())?;
        self.value(slot, value)
    }

    pub(super) fn address(&mut self, value: Value<'_>) -> Result<(), Stop> {
        let slot = self.column(ADDRESS.as_bytes())?;
        let Some(beside) = &mut self.beside else {
            return self.value(slot, value);
        };
        beside.addressed = !matches!(value, Value::Null);
        match (&beside.address, value) {
            (Some((address, _)), Value::Text(asked)) if asked == ADDRESS.as_bytes() => {
                let address = address.clone();
                self.value(slot, Value::Text(address.as_bytes()))
            }
            _ => self.value(slot, value),
        }
    }

    /// The address of a record that says nothing of it, where it is to have one.
    pub(super) fn missing_address(&mut self) -> Result<(), Stop> {
        let wanted = |beside: &Beside| {
            let (address, everywhere) = beside.address.as_ref()?;
            (*everywhere && !beside.addressed).then(|| address.clone())
        };
        match self.beside.as_ref().and_then(wanted) {
            None => Ok(()),
            Some(address) => {
                let slot = self.column(ADDRESS.as_bytes())?;
                self.value(slot, Value::Text(address.as_bytes()))
            }
        }
    }

    /// The column of a nested value under one of the two names: neither an id nor a question for an address.
    pub(super) fn nested_beside(&mut self, slot: Slot) -> Result<Slot, Stop> {
        let id = slot == Slot::Id;
        match &mut self.beside {
            Some(beside) if id => beside.id = None,
            Some(beside) => beside.addressed = true,
            None => {}
        }
        self.column(if id { UUID } else { ADDRESS }.as_bytes())
    }

    /// Whether the row in hand may have an id that was not come across.
    pub(in crate::decode) fn lacks_id(&self) -> bool {
        self.beside.as_ref().is_some_and(|beside| beside.with_ids && beside.id.is_none())
    }

    /// The row in hand has this id.
    pub(in crate::decode) fn is_of(&mut self, id: Option<RecordId>) {
        if let Some(beside) = &mut self.beside {
            beside.id = id;
        }
    }

    /// The row in hand is over, kept or set aside.
    pub(super) fn note_id(&mut self) {
        if let Some(beside) = &mut self.beside {
            beside.ids.push(beside.id);
        }
    }
}
