//! Buckets, listings and writing, as `s3s` asks for them. Reading objects is in [`super::object_read_route`].

use std::io::Write as _;

use futures::StreamExt;
use s3s::dto::{
    Bucket, CreateBucketInput, CreateBucketOutput, DeleteObjectInput, DeleteObjectOutput, ETag, HeadBucketInput,
    HeadBucketOutput, ListBucketsInput, ListBucketsOutput, ListObjectsV2Input, ListObjectsV2Output, PutObjectInput,
    PutObjectOutput, StreamingBlob,
};
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, s3_error};
use tokio::runtime::Handle;

use super::folder::{StoreFolder, run_blocking};
use super::listing;

/// The operations on the folder that `s3s` parses and writes.
pub(super) struct BucketService {
    folder: StoreFolder,
}

impl BucketService {
    pub fn new(folder: StoreFolder) -> Self {
        Self { folder }
    }
}

#[async_trait::async_trait]
impl S3 for BucketService {
    async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        let folder = self.folder.clone();
        let found = run_blocking(move || folder.buckets()).await?;
        let buckets = found.into_iter().map(|(name, changed)| Bucket {
            name: Some(name),
            creation_date: Some(changed.into()),
            ..Bucket::default()
        });
        Ok(S3Response::new(ListBucketsOutput { buckets: Some(buckets.collect()), ..ListBucketsOutput::default() }))
    }

    async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        let folder = self.folder.clone();
        let name = request.input.bucket;
        let location = Some(format!("/{name}"));
        run_blocking(move || folder.create_bucket(&name)).await?;
        Ok(S3Response::new(CreateBucketOutput { location }))
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        let folder = self.folder.clone();
        run_blocking(move || folder.bucket(&request.input.bucket)).await?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let folder = self.folder.clone();
        let output = run_blocking(move || listing::list(&folder.bucket(&request.input.bucket)?, request.input)).await?;
        Ok(S3Response::new(output))
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        // A check and the write after it would not be one step; ignoring the condition could lose an object.
        if input.if_match.is_some() || input.if_none_match.is_some() {
            return Err(s3_error!(NotImplemented, "The embedded store writes without conditions only."));
        }
        let folder = self.folder.clone();
        let (bucket, key, body) = (input.bucket, input.key, input.body);
        // The body is read by async code, the file is written by blocking code: the blocking thread drives both.
        let runtime = Handle::current();
        let identity = run_blocking(move || folder.put(&bucket, &key, |file| receive(&runtime, body, file))).await?;
        let e_tag = Some(ETag::Strong(identity.entity_tag()));
        Ok(S3Response::new(PutObjectOutput { e_tag, ..PutObjectOutput::default() }))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let folder = self.folder.clone();
        let input = request.input;
        run_blocking(move || folder.delete(&input.bucket, &input.key)).await?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }
}

/// Writes a request's body to `file`, from a thread that may block. Fails where the body ends early or is not what was
/// signed, or the file cannot be written.
fn receive(runtime: &Handle, body: Option<StreamingBlob>, file: &mut std::fs::File) -> S3Result<()> {
    let Some(mut body) = body else { return Ok(()) };
    while let Some(chunk) = runtime.block_on(body.next()) {
        let chunk = chunk
            .map_err(|error| s3_error!(IncompleteBody, "The body ended early or is not what was signed: {error}"))?;
        file.write_all(&chunk).map_err(S3Error::internal_error)?;
    }
    Ok(())
}
