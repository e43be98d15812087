//! What S3 asks for: credentials, signatures, object paths, and what its errors mean.

pub mod settings;
