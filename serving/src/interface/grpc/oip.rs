//! The Open Inference Protocol over gRPC.

use std::collections::HashMap;

use tonic::{Request, Response};

use crate::access::error::{ApiError, ErrorKind};
use crate::interface::grpc::proto::open_inference as message;
use crate::interface::grpc::proto::open_inference::grpc_inference_service_server::GrpcInferenceService;
use crate::interface::grpc::proto::open_inference::infer_parameter::ParameterChoice;
use crate::interface::grpc::proto::open_inference::model_infer_request::InferInputTensor;
use crate::interface::grpc::proto::open_inference::model_infer_response::InferOutputTensor;
use crate::interface::grpc::proto::open_inference::model_metadata_response::TensorMetadata;
use crate::interface::grpc::{Calls, GrpcResult, call};
use crate::interface::oip::{EXTENSIONS, Inference, Model, Parameter, Port, Tensor, Values};
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
            versions: vec![now],
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
        let request = request.into_inner();
        let raw = !request.raw_input_contents.is_empty();
        let (id, model_name) = (request.id.clone(), request.model_name.clone());
        let inference = inference(request, &self.0.model()?)?;
        let outcome = inference.run(&self.0, &call).await?;
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
        Ok(Response::new(response))
    }
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
