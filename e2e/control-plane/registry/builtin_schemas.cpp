#include "e2e/control-plane/registry/builtin_schemas.h"

#include <charconv>

namespace pointsman::e2e {
namespace {

// What fields the builtin types have, one definition a line: `Name: field:TYPE …`. A type is
//   s string   b boolean   i int32   l int64   n number   t date-time   u micro time   y bytes
//   x int or string   q quantity   * anything   {T} a map to T
//   [T] an atomic list   [T|k1,k2] a list merged by these keys   [T|k1,k2|p] with patch merge key p
//   [T|] a set   a capitalised name: that definition
// `field:TYPE!` is required; `field:TYPE@22` exists since 1.22. Sources: the API reference of each
// group, including its patch merge keys and list types.
constexpr std::string_view kDefinitions = R"(
Namespace: spec:NamespaceSpec status:NamespaceStatus
NamespaceSpec: finalizers:[s]
NamespaceStatus: phase:s conditions:[PlainCondition|type]
PlainCondition: type:s! status:s! lastTransitionTime:t reason:s message:s lastProbeTime:t lastUpdateTime:t lastHeartbeatTime:t observedGeneration:l
Condition: type:s! status:s! observedGeneration:l lastTransitionTime:t! reason:s! message:s!
Node: spec:NodeSpec status:NodeStatus
NodeSpec: podCIDR:s podCIDRs:[s|] providerID:s unschedulable:b taints:[Taint] configSource:* externalID:s
Taint: key:s! value:s effect:s! timeAdded:t
NodeStatus: capacity:{q} allocatable:{q} phase:s conditions:[PlainCondition|type] addresses:[NodeAddress|type] daemonEndpoints:DaemonEndpoints nodeInfo:NodeInfo images:[ContainerImage] volumesInUse:[s] volumesAttached:[AttachedVolume] config:* runtimeHandlers:*@30 features:*@31 declaredFeatures:[s]@35
NodeAddress: type:s! address:s!
DaemonEndpoints: kubeletEndpoint:DaemonEndpoint
DaemonEndpoint: Port:i!
NodeInfo: machineID:s systemUUID:s bootID:s kernelVersion:s osImage:s containerRuntimeVersion:s kubeletVersion:s kubeProxyVersion:s operatingSystem:s architecture:s swap:*@34
ContainerImage: names:[s] sizeBytes:l
AttachedVolume: name:s! devicePath:s!
ConfigMap: data:{s} binaryData:{y} immutable:b
Secret: data:{y} stringData:{s} type:s immutable:b
ServiceAccount: secrets:[ObjectReference||name] imagePullSecrets:[LocalObjectReference] automountServiceAccountToken:b
ObjectReference: kind:s namespace:s name:s uid:s apiVersion:s resourceVersion:s fieldPath:s
LocalObjectReference: name:s
Service: spec:ServiceSpec status:ServiceStatus
ServiceSpec: ports:[ServicePort|port,protocol|port] selector:{s} clusterIP:s clusterIPs:[s] type:s externalIPs:[s] sessionAffinity:s loadBalancerIP:s loadBalancerSourceRanges:[s] externalName:s externalTrafficPolicy:s healthCheckNodePort:i publishNotReadyAddresses:b sessionAffinityConfig:SessionAffinityConfig ipFamilies:[s] ipFamilyPolicy:s allocateLoadBalancerNodePorts:b loadBalancerClass:s@21 internalTrafficPolicy:s@21 trafficDistribution:s@30 topologyKeys:[s]
ServicePort: name:s protocol:s appProtocol:s port:i! targetPort:x nodePort:i
SessionAffinityConfig: clientIP:ClientIPConfig
ClientIPConfig: timeoutSeconds:i
ServiceStatus: loadBalancer:LoadBalancerStatus conditions:[Condition|type]
LoadBalancerStatus: ingress:[LoadBalancerIngress]
LoadBalancerIngress: ip:s hostname:s ipMode:s@29 ports:[PortStatus]
PortStatus: port:i! protocol:s! error:s
Endpoints: subsets:[EndpointSubset]
EndpointSubset: addresses:[EndpointAddress] notReadyAddresses:[EndpointAddress] ports:[EndpointsPort]
EndpointAddress: ip:s! hostname:s nodeName:s targetRef:ObjectReference
EndpointsPort: name:s port:i! protocol:s appProtocol:s
EndpointSlice: addressType:s! endpoints:[Endpoint] ports:[EndpointPort]
Endpoint: addresses:[s|]! conditions:EndpointConditions hostname:s targetRef:ObjectReference deprecatedTopology:{s} nodeName:s zone:s hints:EndpointHints
EndpointConditions: ready:b serving:b terminating:b
EndpointHints: forZones:[ForName] forNodes:[ForName]@33
ForName: name:s!
EndpointPort: name:s protocol:s port:i appProtocol:s
EndpointSliceV1beta1: addressType:s! endpoints:[EndpointV1beta1] ports:[EndpointPort]
EndpointV1beta1: addresses:[s|]! conditions:EndpointConditions hostname:s targetRef:ObjectReference topology:{s} nodeName:s hints:EndpointHints@21
Lease: spec:LeaseSpec
LeaseSpec: holderIdentity:s leaseDurationSeconds:i acquireTime:u renewTime:u leaseTransitions:i strategy:s@31 preferredHolder:s@31
Event: involvedObject:ObjectReference! reason:s message:s source:EventSource firstTimestamp:t lastTimestamp:t count:i type:s eventTime:u series:EventSeries action:s related:ObjectReference reportingComponent:s reportingInstance:s
EventSource: component:s host:s
EventSeries: count:i lastObservedTime:u
EventV1: eventTime:u! series:EventSeries reportingController:s reportingInstance:s action:s reason:s regarding:ObjectReference related:ObjectReference note:s type:s deprecatedSource:EventSource deprecatedFirstTimestamp:t deprecatedLastTimestamp:t deprecatedCount:i
PriorityClass: value:i! globalDefault:b description:s preemptionPolicy:s
Role: rules:[PolicyRule]
ClusterRole: rules:[PolicyRule] aggregationRule:AggregationRule
AggregationRule: clusterRoleSelectors:[LabelSelector]
PolicyRule: verbs:[s]! apiGroups:[s] resources:[s] resourceNames:[s] nonResourceURLs:[s]
RoleBinding: subjects:[Subject] roleRef:RoleRef!
ClusterRoleBinding: subjects:[Subject] roleRef:RoleRef!
Subject: kind:s! apiGroup:s name:s! namespace:s
RoleRef: apiGroup:s! kind:s! name:s!
LabelSelector: matchLabels:{s} matchExpressions:[Requirement]
Requirement: key:s! operator:s! values:[s]
PodDisruptionBudget: spec:PodDisruptionBudgetSpec status:PodDisruptionBudgetStatus
PodDisruptionBudgetSpec: minAvailable:x selector:LabelSelector maxUnavailable:x unhealthyPodEvictionPolicy:s@26
PodDisruptionBudgetStatus: observedGeneration:l disruptedPods:{t} disruptionsAllowed:i currentHealthy:i desiredHealthy:i expectedPods:i conditions:[Condition|type]
DaemonSet: spec:DaemonSetSpec status:DaemonSetStatus
DaemonSetSpec: selector:LabelSelector! template:PodTemplate! updateStrategy:DaemonSetUpdateStrategy minReadySeconds:i revisionHistoryLimit:i
DaemonSetUpdateStrategy: type:s rollingUpdate:RollingUpdate
RollingUpdate: maxUnavailable:x maxSurge:x
DaemonSetStatus: currentNumberScheduled:i numberMisscheduled:i desiredNumberScheduled:i numberReady:i observedGeneration:l updatedNumberScheduled:i numberAvailable:i numberUnavailable:i collisionCount:i conditions:[PlainCondition|type]
Deployment: spec:DeploymentSpec status:DeploymentStatus
DeploymentSpec: replicas:i selector:LabelSelector! template:PodTemplate! strategy:DeploymentStrategy minReadySeconds:i revisionHistoryLimit:i paused:b progressDeadlineSeconds:i
DeploymentStrategy: type:s rollingUpdate:RollingUpdate
DeploymentStatus: observedGeneration:l replicas:i updatedReplicas:i readyReplicas:i availableReplicas:i unavailableReplicas:i terminatingReplicas:i@33 collisionCount:i conditions:[PlainCondition|type]
PodTemplate: metadata:ObjectMeta spec:PodSpec
ObjectMeta: name:s generateName:s namespace:s labels:{s} annotations:{s} finalizers:[s|] creationTimestamp:t
Pod: spec:PodSpec status:PodStatus
PodSpec: volumes:[Volume|name] initContainers:[Container|name] containers:[Container|name]! ephemeralContainers:[Container|name] restartPolicy:s terminationGracePeriodSeconds:l activeDeadlineSeconds:l dnsPolicy:s nodeSelector:{s} serviceAccountName:s serviceAccount:s automountServiceAccountToken:b nodeName:s hostNetwork:b hostPID:b hostIPC:b shareProcessNamespace:b securityContext:PodSecurityContext imagePullSecrets:[LocalObjectReference|name] hostname:s subdomain:s affinity:Affinity schedulerName:s tolerations:[Toleration] hostAliases:[HostAlias|ip] priorityClassName:s priority:i dnsConfig:PodDNSConfig readinessGates:[ReadinessGate] runtimeClassName:s enableServiceLinks:b preemptionPolicy:s overhead:{q} topologySpreadConstraints:[TopologySpreadConstraint|topologyKey,whenUnsatisfiable|topologyKey] setHostnameAsFQDN:b os:NamedThing@23 hostUsers:b@25 schedulingGates:[NamedThing|name]@26 resourceClaims:*@26 resources:Resources@32 hostnameOverride:s@34
NamedThing: name:s!
ReadinessGate: conditionType:s!
HostAlias: ip:s hostnames:[s]
PodDNSConfig: nameservers:[s] searches:[s] options:[DNSOption]
DNSOption: name:s value:s
Toleration: key:s operator:s value:s effect:s tolerationSeconds:l
TopologySpreadConstraint: maxSkew:i! topologyKey:s! whenUnsatisfiable:s! labelSelector:LabelSelector minDomains:i@24 nodeAffinityPolicy:s@25 nodeTaintsPolicy:s@25 matchLabelKeys:[s]@25
Affinity: nodeAffinity:NodeAffinity podAffinity:PodAffinity podAntiAffinity:PodAffinity
NodeAffinity: requiredDuringSchedulingIgnoredDuringExecution:NodeSelector preferredDuringSchedulingIgnoredDuringExecution:[PreferredSchedulingTerm]
NodeSelector: nodeSelectorTerms:[NodeSelectorTerm]!
NodeSelectorTerm: matchExpressions:[Requirement] matchFields:[Requirement]
PreferredSchedulingTerm: weight:i! preference:NodeSelectorTerm!
PodAffinity: requiredDuringSchedulingIgnoredDuringExecution:[PodAffinityTerm] preferredDuringSchedulingIgnoredDuringExecution:[WeightedPodAffinityTerm]
PodAffinityTerm: labelSelector:LabelSelector namespaces:[s] topologyKey:s! namespaceSelector:LabelSelector@21 matchLabelKeys:[s]@29 mismatchLabelKeys:[s]@29
WeightedPodAffinityTerm: weight:i! podAffinityTerm:PodAffinityTerm!
PodSecurityContext: seLinuxOptions:SELinuxOptions windowsOptions:* runAsUser:l runAsGroup:l runAsNonRoot:b supplementalGroups:[l] supplementalGroupsPolicy:s@31 fsGroup:l sysctls:[Sysctl] fsGroupChangePolicy:s seccompProfile:SeccompProfile appArmorProfile:SeccompProfile@30 seLinuxChangePolicy:s@32
SELinuxOptions: user:s role:s type:s level:s
Sysctl: name:s! value:s!
SeccompProfile: type:s! localhostProfile:s
Container: name:s! image:s command:[s] args:[s] workingDir:s ports:[ContainerPort|containerPort,protocol|containerPort] envFrom:[EnvFrom] env:[EnvVar|name] resources:Resources resizePolicy:*@27 restartPolicy:s@28 volumeMounts:[VolumeMount|mountPath] volumeDevices:[VolumeDevice|devicePath] livenessProbe:Probe readinessProbe:Probe startupProbe:Probe lifecycle:Lifecycle terminationMessagePath:s terminationMessagePolicy:s imagePullPolicy:s securityContext:SecurityContext stdin:b stdinOnce:b tty:b targetContainerName:s restartPolicyRules:*@34
ContainerPort: name:s hostPort:i containerPort:i! protocol:s hostIP:s
EnvFrom: prefix:s configMapRef:OptionalName secretRef:OptionalName
OptionalName: name:s optional:b
EnvVar: name:s! value:s valueFrom:EnvVarSource
EnvVarSource: fieldRef:FieldRef resourceFieldRef:ResourceFieldRef configMapKeyRef:KeyRef secretKeyRef:KeyRef fileKeyRef:*@34
FieldRef: apiVersion:s fieldPath:s!
ResourceFieldRef: containerName:s resource:s! divisor:q
KeyRef: name:s key:s! optional:b
Resources: limits:{q} requests:{q} claims:*@26
VolumeMount: name:s! readOnly:b recursiveReadOnly:s@30 mountPath:s! subPath:s mountPropagation:s subPathExpr:s
VolumeDevice: name:s! devicePath:s!
Probe: exec:ExecAction httpGet:HTTPGet tcpSocket:TCPSocket grpc:GRPCAction@23 initialDelaySeconds:i timeoutSeconds:i periodSeconds:i successThreshold:i failureThreshold:i terminationGracePeriodSeconds:l@21
ExecAction: command:[s]
HTTPGet: path:s port:x! host:s scheme:s httpHeaders:[HTTPHeader]
HTTPHeader: name:s! value:s!
TCPSocket: port:x! host:s
GRPCAction: port:i! service:s
Lifecycle: postStart:LifecycleHandler preStop:LifecycleHandler stopSignal:s@33
LifecycleHandler: exec:ExecAction httpGet:HTTPGet tcpSocket:TCPSocket sleep:SleepAction@29
SleepAction: seconds:l!
SecurityContext: capabilities:Capabilities privileged:b seLinuxOptions:SELinuxOptions windowsOptions:* runAsUser:l runAsGroup:l runAsNonRoot:b readOnlyRootFilesystem:b allowPrivilegeEscalation:b procMount:s seccompProfile:SeccompProfile appArmorProfile:SeccompProfile@30
Capabilities: add:[s] drop:[s]
Volume: name:s! hostPath:HostPath emptyDir:EmptyDir secret:SecretVolume configMap:ConfigMapVolume projected:ProjectedVolume downwardAPI:DownwardAPIVolume persistentVolumeClaim:PersistentVolumeClaimVolume csi:CSIVolume nfs:NFSVolume image:*@31 ephemeral:* iscsi:* fc:* rbd:* cephfs:* cinder:* flexVolume:* flocker:* gcePersistentDisk:* awsElasticBlockStore:* gitRepo:* glusterfs:* azureDisk:* azureFile:* vsphereVolume:* quobyte:* portworxVolume:* scaleIO:* storageos:* photonPersistentDisk:*
HostPath: path:s! type:s
EmptyDir: medium:s sizeLimit:q
SecretVolume: secretName:s items:[KeyToPath] defaultMode:i optional:b
ConfigMapVolume: name:s items:[KeyToPath] defaultMode:i optional:b
KeyToPath: key:s! path:s! mode:i
ProjectedVolume: sources:[ProjectedSource] defaultMode:i
ProjectedSource: secret:ProjectedItems configMap:ProjectedItems downwardAPI:DownwardAPIVolume serviceAccountToken:TokenProjection clusterTrustBundle:*@27 podCertificate:*@34
ProjectedItems: name:s items:[KeyToPath] optional:b
TokenProjection: audience:s expirationSeconds:l path:s!
DownwardAPIVolume: items:[DownwardAPIItem] defaultMode:i
DownwardAPIItem: path:s! fieldRef:FieldRef resourceFieldRef:ResourceFieldRef mode:i
PersistentVolumeClaimVolume: claimName:s! readOnly:b
CSIVolume: driver:s! readOnly:b fsType:s volumeAttributes:{s} nodePublishSecretRef:LocalObjectReference
NFSVolume: server:s! path:s! readOnly:b
PodStatus: observedGeneration:l@33 phase:s conditions:[PlainCondition|type] message:s reason:s nominatedNodeName:s hostIP:s hostIPs:[PodIP]@28 podIP:s podIPs:[PodIP|ip] startTime:t initContainerStatuses:[ContainerStatus] containerStatuses:[ContainerStatus] qosClass:s ephemeralContainerStatuses:[ContainerStatus] resize:s@27 resourceClaimStatuses:*@26 extendedResourceClaimStatus:*@34 allocatedResources:{q}@35 resources:Resources@35
PodIP: ip:s
ContainerStatus: name:s! state:ContainerState lastState:ContainerState ready:b! restartCount:i! image:s! imageID:s! containerID:s started:b allocatedResources:{q}@27 resources:*@27 volumeMounts:*@30 user:*@31 allocatedResourcesStatus:*@31 stopSignal:s@33
ContainerState: waiting:StateWaiting running:StateRunning terminated:StateTerminated
StateWaiting: reason:s message:s
StateRunning: startedAt:t
StateTerminated: exitCode:i! signal:i reason:s message:s startedAt:t finishedAt:t containerID:s
CustomResourceDefinition: spec:CustomResourceDefinitionSpec! status:CustomResourceDefinitionStatus
CustomResourceDefinitionSpec: group:s! names:CRDNames! scope:s! versions:[CRDVersion]! conversion:CRDConversion preserveUnknownFields:b
CRDNames: plural:s! singular:s shortNames:[s] kind:s! listKind:s categories:[s]
CRDVersion: name:s! served:b! storage:b! deprecated:b deprecationWarning:s schema:CRDValidation subresources:CRDSubresources additionalPrinterColumns:[CRDColumn] selectableFields:[CRDSelectableField]@30
CRDValidation: openAPIV3Schema:*
CRDSubresources: status:* scale:CRDScale
CRDScale: specReplicasPath:s! statusReplicasPath:s! labelSelectorPath:s
CRDColumn: name:s! type:s! format:s description:s priority:i jsonPath:s!
CRDSelectableField: jsonPath:s!
CRDConversion: strategy:s! webhook:*
CustomResourceDefinitionStatus: conditions:[PlainCondition|type] acceptedNames:CRDNames storedVersions:[s] observedGeneration:l@35
)";

using Definitions = std::map<std::string, std::string, std::less<>>;

const Definitions& definitions() {
  static const Definitions all = [] {
    Definitions result;
    std::string_view rest = kDefinitions;
    while (!rest.empty()) {
      const auto end = rest.find('\n');
      const std::string_view line = rest.substr(0, end);
      rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
      if (line.empty()) continue;
      const auto colon = line.find(": ");
      result.emplace(line.substr(0, colon), line.substr(colon + 2));
    }
    return result;
  }();
  return all;
}

Json objectSchema(std::string_view name, const Emulation& emulation);

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    const auto end = text.find(separator);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

Json typeSchema(std::string_view type, const Emulation& emulation) {
  switch (type.front()) {
    case 's':
      return {{"type", "string"}};
    case 'b':
      return {{"type", "boolean"}};
    case 'i':
      return {{"type", "integer"}, {"format", "int32"}};
    case 'l':
      return {{"type", "integer"}, {"format", "int64"}};
    case 'n':
      return {{"type", "number"}};
    case 't':
    case 'u':
      return {{"type", "string"}, {"format", "date-time"}};
    case 'y':
      return {{"type", "string"}, {"format", "byte"}};
    case 'x':
    case 'q':
      return {{"x-kubernetes-int-or-string", true}};
    case '*':
      return {{"type", "object"}, {"x-kubernetes-preserve-unknown-fields", true}};
    case '{':
      return {{"type", "object"},
              {"additionalProperties", typeSchema(type.substr(1, type.size() - 2), emulation)}};
    case '[': {
      const auto parts = split(type.substr(1, type.size() - 2), '|');
      Json schema = {{"type", "array"}, {"items", typeSchema(parts[0], emulation)}};
      if (parts.size() == 1) {
        schema["x-kubernetes-list-type"] = "atomic";
      } else if (parts[1].empty()) {
        if (parts.size() == 2) {
          schema["x-kubernetes-list-type"] = "set";
        } else {
          schema["x-kubernetes-list-type"] = "atomic";
          schema["x-kubernetes-patch-merge-key"] = parts[2];
        }
        schema["x-kubernetes-patch-strategy"] = "merge";
      } else {
        const auto keys = split(parts[1], ',');
        schema["x-kubernetes-list-type"] = "map";
        schema["x-kubernetes-list-map-keys"] = keys;
        schema["x-kubernetes-patch-merge-key"] = parts.size() > 2 ? parts[2] : keys[0];
        schema["x-kubernetes-patch-strategy"] = parts[0] == "Volume" ? "merge,retainKeys" : "merge";
      }
      return schema;
    }
    default:
      return objectSchema(type, emulation);
  }
}

Json objectSchema(std::string_view name, const Emulation& emulation) {
  const auto found = definitions().find(name);
  if (found == definitions().end()) {
    throw std::logic_error("no builtin schema is called " + std::string(name));
  }
  Json schema = {{"type", "object"}, {"properties", Json::object()}};
  for (const std::string& field : split(found->second, ' ')) {
    const auto colon = field.find(':');
    std::string_view type = std::string_view(field).substr(colon + 1);
    if (const auto at = type.rfind('@'); at != std::string_view::npos) {
      int since = 0;
      std::from_chars(type.data() + at + 1, type.data() + type.size(), since);
      if (!emulation.atLeast(since)) continue;
      type = type.substr(0, at);
    }
    const std::string key = field.substr(0, colon);
    if (type.back() == '!') {
      schema["required"].push_back(key);
      type.remove_suffix(1);
    }
    schema["properties"][key] = typeSchema(type, emulation);
  }
  // Small types that the API treats as one value.
  static const std::set<std::string, std::less<>> atomic = {
      "ObjectReference", "LocalObjectReference", "LabelSelector", "NodeSelector", "RoleRef",
      "FieldRef",        "ResourceFieldRef",     "KeyRef"};
  if (atomic.contains(name)) schema["x-kubernetes-map-type"] = "atomic";
  return schema;
}

}  // namespace

Json builtinSchema(const std::string& kind, const Emulation& emulation) {
  Json schema = objectSchema(kind, emulation);
  schema["properties"]["apiVersion"] = {{"type", "string"}};
  schema["properties"]["kind"] = {{"type", "string"}};
  schema["properties"]["metadata"] = {{"type", "object"}};
  return schema;
}

}  // namespace pointsman::e2e
