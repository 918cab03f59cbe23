//! The Open Inference Protocol over gRPC.

use std::collections::HashMap;
use std::pin::Pin;

use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::access::error::{ApiError, ErrorKind};
use crate::interface::grpc::proto::open_inference as message;
use crate::interface::grpc::proto::open_inference::grpc_inference_service_server::GrpcInferenceService;
use crate::interface::grpc::proto::open_inference::infer_parameter::ParameterChoice;
use crate::interface::grpc::proto::open_inference::model_infer_request::InferInputTensor;
use crate::interface::grpc::proto::open_inference::model_infer_response::InferOutputTensor;
use crate::interface::grpc::proto::open_inference::model_metadata_response::TensorMetadata;
use crate::interface::grpc::proto::open_inference::repository_index_response::ModelIndex;
use crate::interface::grpc::stream::answer_stream;
use crate::interface::grpc::{Calls, GrpcResult, call};
use crate::interface::oip::{ANY_VERSION, EXTENSIONS, Inference, Model, Parameter, Port, Tensor, Values, ready_state};
use crate::interface::server::{Call, Server};
use crate::request::Position;

#[tonic::async_trait]
impl GrpcInferenceService for Calls {
    async fn server_live(&self, _: Request<message::ServerLiveRequest>) -> GrpcResult<message::ServerLiveResponse> {
        Ok(Response::new(message::ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<message::ServerReadyRequest>) -> GrpcResult<message::ServerReadyResponse> {
        Ok(Response::new(message::ServerReadyResponse { ready: self.0.ready().is_ok() }))
    }

    async fn model_ready(
        &self,
        request: Request<message::ModelReadyRequest>,
    ) -> GrpcResult<message::ModelReadyResponse> {
        let message::ModelReadyRequest { name, version } = request.into_inner();
        Model::find(&name, &version, &self.0.model()?)?;
        Ok(Response::new(message::ModelReadyResponse { ready: self.0.ready().is_ok() }))
    }

    async fn server_metadata(
        &self,
        _: Request<message::ServerMetadataRequest>,
    ) -> GrpcResult<message::ServerMetadataResponse> {
        let (name, version) = ("tempograph".into(), env!("CARGO_PKG_VERSION").into());
        Ok(Response::new(message::ServerMetadataResponse {
            name,
            version,
            extensions: EXTENSIONS.map(String::from).into(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<message::ModelMetadataRequest>,
    ) -> GrpcResult<message::ModelMetadataResponse> {
        let message::ModelMetadataRequest { name, version } = request.into_inner();
        let now = self.0.model()?;
        let model = Model::find(&name, &version, &now)?;
        let ports = |ports: &[Port]| {
            let encoded = |port: &Port| TensorMetadata {
                name: port.name.into(),
                datatype: port.datatype.into(),
                shape: vec![port.shape],
            };
            ports.iter().map(encoded).collect()
        };
        Ok(Response::new(message::ModelMetadataResponse {
            name,
            versions: vec![now, ANY_VERSION.into()],
            platform: "tempograph".into(),
            inputs: ports(model.inputs()),
            outputs: ports(model.outputs()),
            properties: HashMap::new(),
        }))
    }

    async fn model_infer(
        &self,
        mut request: Request<message::ModelInferRequest>,
    ) -> GrpcResult<message::ModelInferResponse> {
        let call = call(&mut request)?;
        Ok(Response::new(infer(&self.0, &call, request.into_inner()).await?))
    }

    type ModelStreamInferStream = Pin<Box<dyn Stream<Item = Result<message::ModelStreamInferResponse, Status>> + Send>>;

    async fn model_stream_infer(
        &self,
        mut request: Request<Streaming<message::ModelInferRequest>>,
    ) -> GrpcResult<Self::ModelStreamInferStream> {
        let call = call(&mut request)?;
        let answers = answer_stream(self.0.clone(), call, request.into_inner());
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn model_config(
        &self,
        request: Request<message::ModelConfigRequest>,
    ) -> GrpcResult<message::ModelConfigResponse> {
        let message::ModelConfigRequest { name, version } = request.into_inner();
        let model = Model::find(&name, &version, &self.0.model()?)?;
        let input = |port: &Port| message::ModelInput {
            name: port.name.into(),
            data_type: data_type(port).into(),
            dims: vec![port.shape],
            optional: port.optional,
        };
        let output = |port: &Port| message::ModelOutput {
            name: port.name.into(),
            data_type: data_type(port).into(),
            dims: vec![port.shape],
        };
        let config = message::ModelConfig {
            name,
            platform: "tempograph".into(),
            max_batch_size: 0,
            input: model.inputs().iter().map(input).collect(),
            output: model.outputs().iter().map(output).collect(),
            backend: "tempograph".into(),
        };
        Ok(Response::new(message::ModelConfigResponse { config: Some(config) }))
    }

    async fn model_statistics(
        &self,
        request: Request<message::ModelStatisticsRequest>,
    ) -> GrpcResult<message::ModelStatisticsResponse> {
        let message::ModelStatisticsRequest { name, version } = request.into_inner();
        let now = self.0.model()?;
        let models = match name.as_str() {
            "" => Model::ALL.map(|(_, model)| model).to_vec(),
            name => vec![Model::find(name, &version, &now)?],
        };
        let model_stats = models.into_iter().map(|model| statistics(&self.0, model, &now)).collect();
        Ok(Response::new(message::ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        request: Request<message::RepositoryIndexRequest>,
    ) -> GrpcResult<message::RepositoryIndexResponse> {
        let only_ready = request.into_inner().ready;
        let ((state, reason), version) = (ready_state(&self.0), self.0.model()?);
        let index = |(name, _): (&str, Model)| ModelIndex {
            name: name.into(),
            version: version.clone(),
            state: state.into(),
            reason: reason.clone(),
        };
        let models = Model::ALL.into_iter().filter(|_| !only_ready || reason.is_empty()).map(index).collect();
        Ok(Response::new(message::RepositoryIndexResponse { models }))
    }
}

fn data_type(port: &Port) -> message::DataType {
    match port.datatype {
        "UINT64" => message::DataType::TypeUint64,
        "INT64" => message::DataType::TypeInt64,
        "FP32" => message::DataType::TypeFp32,
        _ => message::DataType::TypeInvalid,
    }
}

fn statistics(server: &Server, model: Model, version: &str) -> message::ModelStatistics {
    let now = server.metrics.inference[model as usize].now();
    let timed = |(count, ns)| Some(message::StatisticDuration { count, ns });
    let inference_stats = message::InferStatistics {
        success: timed(now.success),
        fail: timed(now.fail),
        queue: timed((0, 0)),
        compute_input: timed(now.input),
        compute_infer: timed(now.infer),
        compute_output: timed(now.output),
        cache_hit: timed((0, 0)),
        cache_miss: timed((0, 0)),
    };
    message::ModelStatistics {
        name: model.name().into(),
        version: version.into(),
        last_inference: now.last_ms,
        inference_count: now.queries,
        execution_count: now.success.0,
        inference_stats: Some(inference_stats),
    }
}

/// Answers a request.
///
/// # Errors
/// [`ApiError`], naming the invalid tensor or parameter.
pub(crate) async fn infer(
    server: &Server,
    call: &Call,
    request: message::ModelInferRequest,
) -> Result<message::ModelInferResponse, ApiError> {
    let raw = !request.raw_input_contents.is_empty();
    let (id, model_name) = (request.id.clone(), request.model_name.clone());
    let inference = inference(request, &server.model()?)?;
    let outcome = inference.run(server, call).await?;
    let parameters = seen(outcome.position);
    let mut response = message::ModelInferResponse {
        model_name,
        model_version: outcome.version,
        id,
        parameters,
        ..Default::default()
    };
    for Tensor { name, shape, values } in outcome.outputs {
        let datatype = values.datatype().into();
        // The answer has the form of the request: raw bytes or typed contents.
        let contents = (!raw).then(|| contents(&values));
        if raw {
            response.raw_output_contents.push(values.to_bytes().into());
        }
        response.outputs.push(InferOutputTensor { name, datatype, shape, parameters: HashMap::new(), contents });
    }
    Ok(response)
}

/// The position of an answer, as parameters.
fn seen(position: Position) -> HashMap<String, message::InferParameter> {
    let count = |count| message::InferParameter { parameter_choice: Some(ParameterChoice::Uint64Param(count)) };
    [("log_seq".into(), count(position.log_seq)), ("version".into(), count(position.version))].into()
}

fn malformed(fact: String) -> ApiError {
    ApiError::new(ErrorKind::Malformed, fact)
}

fn inference(request: message::ModelInferRequest, now: &str) -> Result<Inference, ApiError> {
    let message::ModelInferRequest {
        model_name,
        model_version,
        id,
        parameters,
        inputs,
        outputs,
        raw_input_contents: raw,
    } = request;
    let model = Model::find(&model_name, &model_version, now)?;
    if !raw.is_empty() && raw.len() != inputs.len() {
        return Err(malformed(format!("there are {} inputs and {} raw_input_contents", inputs.len(), raw.len())));
    }
    let values = |(i, input): (usize, InferInputTensor)| {
        let InferInputTensor { name, datatype, shape, contents, .. } = input;
        let values = match raw.get(i) {
            Some(_) if contents.is_some() => {
                return Err(malformed(format!("input `{name}` has both contents and raw_input_contents")));
            }
            Some(bytes) => Values::of_bytes(&name, &datatype, bytes)?,
            None => of_contents(&name, &datatype, contents.unwrap_or_default())?,
        };
        Tensor::new(&name, &shape, values)
    };
    let inputs = inputs.into_iter().enumerate().map(values).collect::<Result<_, _>>()?;
    let parameters = parameters.into_iter().filter_map(|(name, value)| Some((name, parameter(value)?))).collect();
    Ok(Inference { model, id, parameters, inputs, outputs: outputs.into_iter().map(|output| output.name).collect() })
}

fn parameter(value: message::InferParameter) -> Option<Parameter> {
    Some(match value.parameter_choice? {
        ParameterChoice::BoolParam(value) => Parameter::Bool(value),
        ParameterChoice::Int64Param(value) => Parameter::Whole(value),
        // A value above `i64::MAX` is larger than any valid count.
        ParameterChoice::Uint64Param(value) => Parameter::Whole(i64::try_from(value).unwrap_or(i64::MAX)),
        ParameterChoice::DoubleParam(value) => Parameter::Real(value),
        ParameterChoice::StringParam(value) => Parameter::Text(value),
    })
}

fn of_contents(name: &str, datatype: &str, contents: message::InferTensorContents) -> Result<Values, ApiError> {
    match datatype {
        "INT8" | "INT16" | "INT32" => Ok(Values::Signed(contents.int_contents.into_iter().map(i64::from).collect())),
        "INT64" => Ok(Values::Signed(contents.int64_contents)),
        "UINT8" | "UINT16" | "UINT32" => {
            Ok(Values::Unsigned(contents.uint_contents.into_iter().map(u64::from).collect()))
        }
        "UINT64" => Ok(Values::Unsigned(contents.uint64_contents)),
        "FP32" => Ok(Values::Float(contents.fp32_contents)),
        "FP64" => Ok(Values::Double(contents.fp64_contents)),
        "BYTES" => {
            let text = |(at, bytes): (usize, axum::body::Bytes)| {
                String::from_utf8(bytes.to_vec()).map_err(|_| malformed(format!("{name}[{at}] is not UTF-8")))
            };
            contents.bytes_contents.into_iter().enumerate().map(text).collect::<Result<_, _>>().map(Values::Text)
        }
        _ => Values::of_bytes(name, datatype, &[]),
    }
}

fn contents(values: &Values) -> message::InferTensorContents {
    let none = message::InferTensorContents::default();
    match values {
        Values::Signed(values) => message::InferTensorContents { int64_contents: values.clone(), ..none },
        Values::Unsigned(values) => message::InferTensorContents { uint64_contents: values.clone(), ..none },
        Values::Float(values) => message::InferTensorContents { fp32_contents: values.clone(), ..none },
        Values::Double(values) => message::InferTensorContents { fp64_contents: values.clone(), ..none },
        Values::Text(values) => message::InferTensorContents {
            bytes_contents: values.iter().map(|value| value.clone().into_bytes().into()).collect(),
            ..none
        },
    }
}
