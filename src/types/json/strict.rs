//! A deserializer around another one: it refuses arrays in the place of objects and tracks its position.
//!
//! Every value is read by `deserialize_any`, so that a value of the wrong kind is reported here, in the words of
//! JSON. An enum is one of a set of texts, and keys are texts: callers send nothing else.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::place::Place;
use super::words::{ReadError, choices};

pub(super) struct Strict<'a, D> {
    inner: D,
    place: &'a Place,
    is_key: bool,
}

impl<'a, D> Strict<'a, D> {
    pub(super) fn new(inner: D, place: &'a Place) -> Self {
        Self { inner, place, is_key: false }
    }

    fn placed<V>(&self, visitor: V) -> Placed<'a, V> {
        Placed { visitor, place: self.place, is_object: false, is_key: self.is_key }
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<'_, D> {
    type Error = ReadError<D::Error>;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        let placed = self.placed(visitor);
        self.inner.deserialize_any(placed).map_err(ReadError::Inner)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        let placed = Placed { is_object: true, ..self.placed(visitor) };
        self.inner.deserialize_any(placed).map_err(ReadError::Inner)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.deserialize_any(Choice { visitor, known })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        let placed = self.placed(visitor);
        self.inner.deserialize_option(placed).map_err(ReadError::Inner)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.inner.deserialize_ignored_any(visitor).map_err(ReadError::Inner)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier
    }
}

/// A visitor around another one, which receives the values of the reader below first.
struct Placed<'a, V> {
    visitor: V,
    place: &'a Place,
    /// True if an array is refused where the visitor would accept one.
    is_object: bool,
    is_key: bool,
}

impl<'de, V: Visitor<'de>> Placed<'_, V> {
    fn visit<E: de::Error>(
        self,
        visit: impl FnOnce(V) -> Result<V::Value, ReadError<E>>,
    ) -> Result<V::Value, E> {
        let place = self.place;
        visit(self.visitor).map_err(|error| place.lower(error))
    }

    fn visit_text<E: de::Error>(
        self,
        text: &str,
        visit: impl FnOnce(V) -> Result<V::Value, ReadError<E>>,
    ) -> Result<V::Value, E> {
        let (place, is_key) = (self.place, self.is_key);
        let resolved = self.visit(visit)?;
        if is_key {
            place.enter_field(text);
        }
        Ok(resolved)
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Placed<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<V::Value, E> {
        self.visit(|visitor| visitor.visit_bool(value))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<V::Value, E> {
        self.visit(|visitor| visitor.visit_i64(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<V::Value, E> {
        self.visit(|visitor| visitor.visit_u64(number))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<V::Value, E> {
        self.visit(|visitor| visitor.visit_f64(number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<V::Value, E> {
        self.visit_text(text, |visitor| visitor.visit_str(text))
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<V::Value, E> {
        self.visit_text(text, |visitor| visitor.visit_borrowed_str(text))
    }

    fn visit_unit<E: de::Error>(self) -> Result<V::Value, E> {
        self.visit(Visitor::visit_unit)
    }

    fn visit_none<E: de::Error>(self) -> Result<V::Value, E> {
        self.visit(Visitor::visit_none)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let strict = Strict::new(inner, self.place);
        self.visit(|visitor| visitor.visit_some(strict))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        if self.is_object {
            let found = de::Unexpected::Seq;
            return self.visit(|visitor| Err(de::Error::invalid_type(found, &visitor)));
        }
        let entries = Entries { inner, place: self.place, depth: self.place.depth(), n_read: 0 };
        self.visit(|visitor| visitor.visit_seq(entries))
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let fields = Fields { inner, place: self.place, depth: self.place.depth() };
        self.visit(|visitor| visitor.visit_map(fields))
    }
}

/// A visitor of one of a set of texts.
struct Choice<V> {
    visitor: V,
    known: &'static [&'static str],
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Choice<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&choices(self.known))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<V::Value, E> {
        self.visitor.visit_enum(StrDeserializer::new(text))
    }
}

struct Entries<'a, A> {
    inner: A,
    place: &'a Place,
    depth: usize,
    n_read: usize,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Entries<'_, A> {
    type Error = ReadError<A::Error>;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Self::Error> {
        self.place.back_to(self.depth);
        self.place.enter_entry(self.n_read);
        self.n_read += 1;
        let seed = Seed { seed, place: self.place, is_key: false };
        let entry = self.inner.next_element_seed(seed).map_err(ReadError::Inner)?;
        if entry.is_none() {
            self.place.back_to(self.depth);
        } else if !self.place.count_entry() {
            return Err(Place::too_many());
        }
        Ok(entry)
    }
}

struct Fields<'a, A> {
    inner: A,
    place: &'a Place,
    depth: usize,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Fields<'_, A> {
    type Error = ReadError<A::Error>;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Self::Error> {
        self.place.back_to(self.depth);
        self.inner.next_key_seed(Seed { seed, place: self.place, is_key: true }).map_err(ReadError::Inner)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Self::Error> {
        self.inner.next_value_seed(Seed { seed, place: self.place, is_key: false }).map_err(ReadError::Inner)
    }
}

struct Seed<'a, S> {
    seed: S,
    place: &'a Place,
    is_key: bool,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Seed<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        let strict = Strict { inner, place: self.place, is_key: self.is_key };
        self.seed.deserialize(strict).map_err(|error| self.place.lower(error))
    }
}
