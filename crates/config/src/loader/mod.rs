//! Settings from several sources: source, parser, cache, reload, and layers over layers. The idea of Carcass.
//!
//! A [`Loader`] takes what its source gives through its parser and keeps the result until it is told to reload. A
//! [`Stack`] lays several of them over each other and merges them deeply: a later layer wins, map by map and value by
//! value. Lists are values. Each value knows where it came from, and what it hides ([`Stack::explain`]).

mod layers;
mod stack;

use std::fmt;

pub use layers::{Environment, FileLayer, Fixed, Shared, Stored, TextLayer};
pub use stack::{Explained, Layer, LayerError, Origin, Setting, Stack, Tree};

type Source<S, E> = Box<dyn Fn() -> Result<S, E> + Send + Sync>;
type Parser<S, T, E> = Box<dyn Fn(S) -> Result<T, E> + Send + Sync>;

/// One source with a parser, and what came of them.
pub struct Loader<S, T, E> {
    source: Option<Source<S, E>>,
    parser: Parser<S, T, E>,
    cached: Option<T>,
}

impl<S, T, E> fmt::Debug for Loader<S, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader")
            .field("has_source", &self.source.is_some())
            .field("is_cached", &self.cached.is_some())
            .finish_non_exhaustive()
    }
}

impl<V: 'static, E: 'static> Loader<V, V, E> {
    /// No source yet; what it gives is taken as it is.
    pub fn plain() -> Self {
        Self::new(Ok)
    }
}

impl<S, T, E> Loader<S, T, E> {
    /// No source yet.
    pub fn new(parser: impl Fn(S) -> Result<T, E> + Send + Sync + 'static) -> Self {
        Self {
            source: None,
            parser: Box::new(parser),
            cached: None,
        }
    }

    /// Another source. What is cached is forgotten.
    pub fn source(&mut self, source: impl Fn() -> Result<S, E> + Send + Sync + 'static) -> &mut Self {
        self.source = Some(Box::new(source));
        self.cached = None;
        self
    }

    /// Another parser. What is cached is forgotten.
    pub fn parser(&mut self, parser: impl Fn(S) -> Result<T, E> + Send + Sync + 'static) -> &mut Self {
        self.parser = Box::new(parser);
        self.cached = None;
        self
    }

    /// What is cached; the first time, what the source gives. Nothing without a source.
    pub fn get(&mut self) -> Result<Option<&T>, E> {
        if self.cached.is_none() {
            return self.reload();
        }
        Ok(self.cached.as_ref())
    }

    /// Asks the source again. If it fails, what is cached stays.
    pub fn reload(&mut self) -> Result<Option<&T>, E> {
        let Some(source) = &self.source else {
            return Ok(None);
        };
        let loaded = (self.parser)(source()?)?;
        Ok(Some(self.cached.insert(loaded)))
    }
}
