//! Stands in for compression in a build without it: neither of these ever exists.

use bytes::Bytes;

use super::deflated_once::DeflatedOnce;
use crate::failure::Failure;
use crate::message::Message;
use crate::policy::{AgreedCompression, Compression};

#[derive(Debug)]
pub(super) enum Inflater {}

#[derive(Debug)]
pub(super) enum Deflater {}

impl Inflater {
    pub(super) fn new(_: AgreedCompression) -> Option<Self> {
        None
    }

    pub(super) fn inflate(
        &mut self,
        _: &[u8],
        _: usize,
        _: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match *self {}
    }

    pub(super) fn finish(
        &mut self,
        _: usize,
        _: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match *self {}
    }

    pub(super) fn take_held(&mut self) -> &[u8] {
        match *self {}
    }

    pub(super) fn is_large(&self) -> bool {
        match *self {}
    }

    pub(super) fn relax(&mut self) {
        match *self {}
    }
}

impl Deflater {
    pub(super) fn new(_: AgreedCompression, _: Compression) -> Option<Self> {
        None
    }

    pub(super) fn deflate(&mut self, _: &Message, _: Option<u8>) -> Option<Vec<u8>> {
        match *self {}
    }

    pub(super) fn deflate_once(
        &mut self,
        _: &Message,
        _: Option<u8>,
        _: &DeflatedOnce,
    ) -> Option<Bytes> {
        match *self {}
    }

    pub(super) fn has_context(&self) -> bool {
        match *self {}
    }

    pub(super) fn put_back(&mut self, _: Vec<u8>) {
        match *self {}
    }

    pub(super) fn is_large(&self) -> bool {
        match *self {}
    }

    pub(super) fn relax(&mut self) {
        match *self {}
    }
}
