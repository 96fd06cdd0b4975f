//! Who keeps objects alive; part of the snapshot of a heap.

use serde::{Deserialize, Serialize};

/// Who keeps the objects of a type alive, or one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The type's name.
    #[serde(rename = "type")]
    pub name: String,
    /// Objects of the type; 1, where one was asked for.
    pub count: u64,
    /// Those that were looked into.
    pub samples: u64,
    /// Times that the heap was gone through.
    pub passes: u64,
    /// All that leads to samples was found, but for those that hang from something.
    pub complete: bool,
    /// How they hang, the way of most first.
    pub groups: Vec<Group>,
    /// Samples that hang in still other ways.
    pub others: u64,
    /// What most of them hang from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
    /// Samples that hang from nothing that was found.
    pub unheld: u64,
    /// Those of them that nothing but cycles can hold: all references that they and what leads to them count were found.
    pub in_cycles: u64,
    /// Such cycles, each once; the last word is the object that one begins with.
    pub cycles: Vec<Vec<String>>,
    /// Objects and references that there was no room for.
    pub over: u64,
}

/// Samples that hang in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// How many.
    pub samples: u64,
    /// One of the references may be none: what a type of compiled code refers to isn't known.
    pub maybe: bool,
    /// One of them.
    pub object: u64,
    /// Its chain: `["module app", "app.cache", "dict['k']", "app.Embedding"]`.
    pub path: Vec<String>,
}

/// What most samples hang from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// How many of them.
    pub samples: u64,
    /// The chain that leads to it.
    pub path: Vec<String>,
}
