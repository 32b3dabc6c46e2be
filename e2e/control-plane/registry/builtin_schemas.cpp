#include "e2e/control-plane/registry/builtin_schemas.h"

#include <charconv>
#include <functional>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace pointsman::e2e {
namespace {

// What fields the builtin types have, one definition a line: `Name: field:TYPE …`. A type is
//   s string   b boolean   i int32   l int64   n number   t date-time   u micro time   y bytes
//   x int or string   q quantity   * anything   {T} a map to T
//   [T] an atomic list   [T|k1,k2] a list merged by these keys   [T|k1,k2|p] with patch merge key p
//   [T|] a set   a capitalised name: that definition
// `#2.1` is the field's number in the protobuf encoding (2.1: field 1 of the message in field 2).
// `field:TYPE!` is required; `field:TYPE@22` exists since 1.22. Sources: the API reference of each
// group, including its patch merge keys and list types.
constexpr std::string_view kDefinitions = R"(
Namespace: spec:NamespaceSpec#2 status:NamespaceStatus#3
NamespaceSpec: finalizers:[s]#1
NamespaceStatus: phase:s#1 conditions:[PlainCondition|type]#2
PlainCondition: type:s! status:s! lastTransitionTime:t reason:s message:s lastProbeTime:t lastUpdateTime:t lastHeartbeatTime:t observedGeneration:l
Condition: type:s! status:s! observedGeneration:l lastTransitionTime:t! reason:s! message:s!
Node: spec:NodeSpec#2 status:NodeStatus#3
NodeSpec: podCIDR:s#1 podCIDRs:[s|]#7 providerID:s#3 unschedulable:b#4 taints:[Taint]#5 configSource:*#6 externalID:s#2
Taint: key:s!#1 value:s#2 effect:s!#3 timeAdded:t#4
NodeStatus: capacity:{q}#1 allocatable:{q}#2 phase:s#3 conditions:[PlainCondition|type]#4 addresses:[NodeAddress]#5 daemonEndpoints:DaemonEndpoints#6 nodeInfo:NodeInfo#7 images:[ContainerImage]#8 volumesInUse:[s]#9 volumesAttached:[AttachedVolume]#10 config:*#11 runtimeHandlers:*@30#12 features:*@31#13 declaredFeatures:[s]@35#14
NodeAddress: type:s!#1 address:s!#2
DaemonEndpoints: kubeletEndpoint:DaemonEndpoint
DaemonEndpoint: Port:i!#1
NodeInfo: machineID:s#1 systemUUID:s#2 bootID:s#3 kernelVersion:s#4 osImage:s#5 containerRuntimeVersion:s#6 kubeletVersion:s#7 kubeProxyVersion:s#8 operatingSystem:s#9 architecture:s#10 swap:*@34#11
ContainerImage: names:[s]#1 sizeBytes:l#2
AttachedVolume: name:s!#1 devicePath:s!#2
ConfigMap: data:{s}#2 binaryData:{y}#3 immutable:b#4
Secret: data:{y}#2 stringData:{s}#4 type:s#3 immutable:b#5
ServiceAccount: secrets:[ObjectReference||name]#2 imagePullSecrets:[LocalObjectReference]#3 automountServiceAccountToken:b#4
ObjectReference: kind:s#1 namespace:s#2 name:s#3 uid:s#4 apiVersion:s#5 resourceVersion:s#6 fieldPath:s#7
LocalObjectReference: name:s#1
Service: spec:ServiceSpec#2 status:ServiceStatus#3
ServiceSpec: ports:[ServicePort|port,protocol|port]#1 selector:{s}#2 clusterIP:s#3 clusterIPs:[s]#18 type:s#4 externalIPs:[s]#5 sessionAffinity:s#7 loadBalancerIP:s#8 loadBalancerSourceRanges:[s]#9 externalName:s#10 externalTrafficPolicy:s#11 healthCheckNodePort:i#12 publishNotReadyAddresses:b#13 sessionAffinityConfig:SessionAffinityConfig#14 ipFamilies:[s]#19 ipFamilyPolicy:s#17 allocateLoadBalancerNodePorts:b#20 loadBalancerClass:s@21#21 internalTrafficPolicy:s@21#22 trafficDistribution:s@30#23 topologyKeys:[s]
ServicePort: name:s#1 protocol:s#2 appProtocol:s#6 port:i!#3 targetPort:x#4 nodePort:i#5
SessionAffinityConfig: clientIP:ClientIPConfig#1
ClientIPConfig: timeoutSeconds:i#1
ServiceStatus: loadBalancer:LoadBalancerStatus#1 conditions:[Condition|type]#2
LoadBalancerStatus: ingress:[LoadBalancerIngress]#1
LoadBalancerIngress: ip:s#1 hostname:s#2 ipMode:s@29#3 ports:[PortStatus]#4
PortStatus: port:i!#1 protocol:s!#2 error:s#3
Endpoints: subsets:[EndpointSubset]#2
EndpointSubset: addresses:[EndpointAddress]#1 notReadyAddresses:[EndpointAddress]#2 ports:[EndpointsPort]#3
EndpointAddress: ip:s!#1 hostname:s#3 nodeName:s#4 targetRef:ObjectReference#2
EndpointsPort: name:s#1 port:i!#2 protocol:s#3 appProtocol:s#4
EndpointSlice: addressType:s!#4 endpoints:[Endpoint]#2 ports:[EndpointPort]#3
Endpoint: addresses:[s|]!#1 conditions:EndpointConditions#2 hostname:s#3 targetRef:ObjectReference#4 deprecatedTopology:{s}#5 nodeName:s#6 zone:s#7 hints:EndpointHints#8
EndpointConditions: ready:b#1 serving:b#2 terminating:b#3
EndpointHints: forZones:[ForName]#1 forNodes:[ForName]@33#2
ForName: name:s!#1
EndpointPort: name:s#1 protocol:s#3 port:i#2 appProtocol:s#4
EndpointSliceV1beta1: addressType:s!#4 endpoints:[EndpointV1beta1]#2 ports:[EndpointPort]#3
EndpointV1beta1: addresses:[s|]!#1 conditions:EndpointConditions#2 hostname:s#3 targetRef:ObjectReference#4 topology:{s}#5 nodeName:s#6 hints:EndpointHints@21#7
ControllerRevision: data:*#2 revision:l!#3
ResourceQuota: spec:ResourceQuotaSpec#2 status:ResourceQuotaStatus#3
ResourceQuotaSpec: hard:{q}#1 scopes:[s]#2 scopeSelector:ScopeSelector#3
ResourceQuotaStatus: hard:{q}#1 used:{q}#2
ScopeSelector: matchExpressions:[ScopeRequirement]#1
ScopeRequirement: scopeName:s!#1 operator:s!#2 values:[s]#3
ValidatingAdmissionPolicy: spec:AdmissionPolicySpec! status:*
AdmissionPolicySpec: paramKind:* matchConstraints:AdmissionMatch validations:[AdmissionValidation] failurePolicy:s auditAnnotations:[*] matchConditions:[NamedExpression|name] variables:[NamedExpression|name]
AdmissionMatch: namespaceSelector:LabelSelector objectSelector:LabelSelector resourceRules:[AdmissionRule] excludeResourceRules:[AdmissionRule] matchPolicy:s
AdmissionRule: apiGroups:[s] apiVersions:[s] operations:[s] resources:[s] resourceNames:[s] scope:s
AdmissionValidation: expression:s! message:s reason:s messageExpression:s
NamedExpression: name:s! expression:s!
ValidatingAdmissionPolicyBinding: spec:AdmissionBindingSpec!
AdmissionBindingSpec: policyName:s! paramRef:* matchResources:AdmissionMatch validationActions:[s|]!
Lease: spec:LeaseSpec#2
LeaseSpec: holderIdentity:s#1 leaseDurationSeconds:i#2 acquireTime:u#3 renewTime:u#4 leaseTransitions:i#5 strategy:s@31#6 preferredHolder:s@31#7
Event: involvedObject:ObjectReference!#2 reason:s#3 message:s#4 source:EventSource#5 firstTimestamp:t#6 lastTimestamp:t#7 count:i#8 type:s#9 eventTime:u#10 series:EventSeries#11 action:s#12 related:ObjectReference#13 reportingComponent:s#14 reportingInstance:s#15
EventSource: component:s#1 host:s#2
EventSeries: count:i#1 lastObservedTime:u#2
EventV1: eventTime:u!#2 series:EventSeries#3 reportingController:s#4 reportingInstance:s#5 action:s#6 reason:s#7 regarding:ObjectReference#8 related:ObjectReference#9 note:s#10 type:s#11 deprecatedSource:EventSource#12 deprecatedFirstTimestamp:t#13 deprecatedLastTimestamp:t#14 deprecatedCount:i#15
PriorityClass: value:i!#2 globalDefault:b#3 description:s#4 preemptionPolicy:s#5
Role: rules:[PolicyRule]#2
ClusterRole: rules:[PolicyRule]#2 aggregationRule:AggregationRule#3
AggregationRule: clusterRoleSelectors:[LabelSelector]#1
PolicyRule: verbs:[s]!#1 apiGroups:[s]#2 resources:[s]#3 resourceNames:[s]#4 nonResourceURLs:[s]#5
RoleBinding: subjects:[Subject]#2 roleRef:RoleRef!#3
ClusterRoleBinding: subjects:[Subject]#2 roleRef:RoleRef!#3
Subject: kind:s!#1 apiGroup:s#2 name:s!#3 namespace:s#4
RoleRef: apiGroup:s!#1 kind:s!#2 name:s!#3
LabelSelector: matchLabels:{s}#1 matchExpressions:[Requirement]#2
Requirement: key:s!#1 operator:s!#2 values:[s]#3
PodDisruptionBudget: spec:PodDisruptionBudgetSpec#2 status:PodDisruptionBudgetStatus#3
PodDisruptionBudgetSpec: minAvailable:x#1 selector:LabelSelector#2 maxUnavailable:x#3 unhealthyPodEvictionPolicy:s@26#4
PodDisruptionBudgetStatus: observedGeneration:l#1 disruptedPods:{t}#2 disruptionsAllowed:i#3 currentHealthy:i#4 desiredHealthy:i#5 expectedPods:i#6 conditions:[Condition|type]#7
DaemonSet: spec:DaemonSetSpec#2 status:DaemonSetStatus#3
DaemonSetSpec: selector:LabelSelector!#1 template:PodTemplate!#2 updateStrategy:DaemonSetUpdateStrategy#3 minReadySeconds:i#4 revisionHistoryLimit:i#6
DaemonSetUpdateStrategy: type:s#1 rollingUpdate:RollingUpdate#2
RollingUpdate: maxUnavailable:x#1 maxSurge:x#2
DaemonSetStatus: currentNumberScheduled:i#1 numberMisscheduled:i#2 desiredNumberScheduled:i#3 numberReady:i#4 observedGeneration:l#5 updatedNumberScheduled:i#6 numberAvailable:i#7 numberUnavailable:i#8 collisionCount:i#9 conditions:[PlainCondition|type]#10
Deployment: spec:DeploymentSpec#2 status:DeploymentStatus#3
DeploymentSpec: replicas:i#1 selector:LabelSelector!#2 template:PodTemplate!#3 strategy:DeploymentStrategy#4 minReadySeconds:i#5 revisionHistoryLimit:i#6 paused:b#7 progressDeadlineSeconds:i#9
DeploymentStrategy: type:s#1 rollingUpdate:RollingUpdate#2
DeploymentStatus: observedGeneration:l#1 replicas:i#2 updatedReplicas:i#3 readyReplicas:i#7 availableReplicas:i#4 unavailableReplicas:i#5 terminatingReplicas:i@33#9 collisionCount:i#8 conditions:[PlainCondition|type]#6
ReplicaSet: spec:ReplicaSetSpec#2 status:ReplicaSetStatus#3
ReplicaSetSpec: replicas:i#1 selector:LabelSelector!#2 template:PodTemplate#3 minReadySeconds:i#4
ReplicaSetStatus: replicas:i!#1 fullyLabeledReplicas:i#2 readyReplicas:i#4 availableReplicas:i#5 terminatingReplicas:i@33#7 observedGeneration:l#3 conditions:[PlainCondition|type]#6
Scale: spec:ScaleSpec#2
ScaleSpec: replicas:i#1
PodTemplate: metadata:ObjectMeta#1 spec:PodSpec#2
ObjectMeta: name:s#1 generateName:s#2 namespace:s#3 selfLink:s#4 uid:s#5 resourceVersion:s#6 generation:l#7 creationTimestamp:t#8 deletionTimestamp:t#9 deletionGracePeriodSeconds:l#10 labels:{s}#11 annotations:{s}#12 ownerReferences:[OwnerReference|uid]#13 finalizers:[s|]#14
OwnerReference: kind:s!#1 name:s!#3 uid:s!#4 apiVersion:s!#5 controller:b#6 blockOwnerDeletion:b#7
DeleteOptions: gracePeriodSeconds:l#1 preconditions:Preconditions#2 orphanDependents:b#3 propagationPolicy:s#4 dryRun:[s]#5
Preconditions: uid:s#1 resourceVersion:s#2
TokenRequest: spec:TokenRequestSpec#2
TokenRequestSpec: audiences:[s]#1 expirationSeconds:l#4
Pod: spec:PodSpec#2 status:PodStatus#3
PodSpec: volumes:[Volume|name]#1 initContainers:[Container|name]#20 containers:[Container|name]!#2 ephemeralContainers:[Container|name]#34 restartPolicy:s#3 terminationGracePeriodSeconds:l#4 activeDeadlineSeconds:l#5 dnsPolicy:s#6 nodeSelector:{s}#7 serviceAccountName:s#8 serviceAccount:s#9 automountServiceAccountToken:b#21 nodeName:s#10 hostNetwork:b#11 hostPID:b#12 hostIPC:b#13 shareProcessNamespace:b#27 securityContext:PodSecurityContext#14 imagePullSecrets:[LocalObjectReference|name]#15 hostname:s#16 subdomain:s#17 affinity:Affinity#18 schedulerName:s#19 tolerations:[Toleration]#22 hostAliases:[HostAlias|ip]#23 priorityClassName:s#24 priority:i#25 dnsConfig:PodDNSConfig#26 readinessGates:[ReadinessGate]#28 runtimeClassName:s#29 enableServiceLinks:b#30 preemptionPolicy:s#31 overhead:{q}#32 topologySpreadConstraints:[TopologySpreadConstraint|topologyKey,whenUnsatisfiable|topologyKey]#33 setHostnameAsFQDN:b#35 os:NamedThing@23#36 hostUsers:b@25#37 schedulingGates:[NamedThing|name]@26#38 resourceClaims:*@26#39 resources:Resources@32#40 hostnameOverride:s@34#41
NamedThing: name:s!#1
ReadinessGate: conditionType:s!#1
HostAlias: ip:s#1 hostnames:[s]#2
PodDNSConfig: nameservers:[s]#1 searches:[s]#2 options:[DNSOption]#3
DNSOption: name:s#1 value:s#2
Toleration: key:s#1 operator:s#2 value:s#3 effect:s#4 tolerationSeconds:l#5
TopologySpreadConstraint: maxSkew:i!#1 topologyKey:s!#2 whenUnsatisfiable:s!#3 labelSelector:LabelSelector#4 minDomains:i@24#5 nodeAffinityPolicy:s@25#6 nodeTaintsPolicy:s@25#7 matchLabelKeys:[s]@25#8
Affinity: nodeAffinity:NodeAffinity#1 podAffinity:PodAffinity#2 podAntiAffinity:PodAffinity#3
NodeAffinity: requiredDuringSchedulingIgnoredDuringExecution:NodeSelector#1 preferredDuringSchedulingIgnoredDuringExecution:[PreferredSchedulingTerm]#2
NodeSelector: nodeSelectorTerms:[NodeSelectorTerm]!#1
NodeSelectorTerm: matchExpressions:[Requirement]#1 matchFields:[Requirement]#2
PreferredSchedulingTerm: weight:i!#1 preference:NodeSelectorTerm!#2
PodAffinity: requiredDuringSchedulingIgnoredDuringExecution:[PodAffinityTerm]#1 preferredDuringSchedulingIgnoredDuringExecution:[WeightedPodAffinityTerm]#2
PodAffinityTerm: labelSelector:LabelSelector#1 namespaces:[s]#2 topologyKey:s!#3 namespaceSelector:LabelSelector@21#4 matchLabelKeys:[s]@29#5 mismatchLabelKeys:[s]@29#6
WeightedPodAffinityTerm: weight:i!#1 podAffinityTerm:PodAffinityTerm!#2
PodSecurityContext: seLinuxOptions:SELinuxOptions#1 windowsOptions:*#8 runAsUser:l#2 runAsGroup:l#6 runAsNonRoot:b#3 supplementalGroups:[l]#4 supplementalGroupsPolicy:s@31#12 fsGroup:l#5 sysctls:[Sysctl]#7 fsGroupChangePolicy:s#9 seccompProfile:SeccompProfile#10 appArmorProfile:SeccompProfile@30#11 seLinuxChangePolicy:s@32#13
SELinuxOptions: user:s#1 role:s#2 type:s#3 level:s#4
Sysctl: name:s!#1 value:s!#2
SeccompProfile: type:s!#1 localhostProfile:s#2
Container: name:s!#1 image:s#2 command:[s]#3 args:[s]#4 workingDir:s#5 ports:[ContainerPort|containerPort,protocol|containerPort]#6 envFrom:[EnvFrom]#19 env:[EnvVar|name]#7 resources:Resources#8 resizePolicy:*@27#23 restartPolicy:s@28#24 volumeMounts:[VolumeMount|mountPath]#9 volumeDevices:[VolumeDevice|devicePath]#21 livenessProbe:Probe#10 readinessProbe:Probe#11 startupProbe:Probe#22 lifecycle:Lifecycle#12 terminationMessagePath:s#13 terminationMessagePolicy:s#20 imagePullPolicy:s#14 securityContext:SecurityContext#15 stdin:b#16 stdinOnce:b#17 tty:b#18 targetContainerName:s restartPolicyRules:*@34#25
ContainerPort: name:s#1 hostPort:i#2 containerPort:i!#3 protocol:s#4 hostIP:s#5
EnvFrom: prefix:s#1 configMapRef:OptionalName#2 secretRef:OptionalName#3
OptionalName: name:s#1.1 optional:b#2
EnvVar: name:s!#1 value:s#2 valueFrom:EnvVarSource#3
EnvVarSource: fieldRef:FieldRef#1 resourceFieldRef:ResourceFieldRef#2 configMapKeyRef:KeyRef#3 secretKeyRef:KeyRef#4 fileKeyRef:*@34#5
FieldRef: apiVersion:s#1 fieldPath:s!#2
ResourceFieldRef: containerName:s#1 resource:s!#2 divisor:q#3
KeyRef: name:s#1.1 key:s!#2 optional:b#3
Resources: limits:{q}#1 requests:{q}#2 claims:*@26#3
VolumeMount: name:s!#1 readOnly:b#2 recursiveReadOnly:s@30#7 mountPath:s!#3 subPath:s#4 mountPropagation:s#5 subPathExpr:s#6
VolumeDevice: name:s!#1 devicePath:s!#2
Probe: exec:ExecAction#1.1 httpGet:HTTPGet#1.2 tcpSocket:TCPSocket#1.3 grpc:GRPCAction@23#1.4 initialDelaySeconds:i#2 timeoutSeconds:i#3 periodSeconds:i#4 successThreshold:i#5 failureThreshold:i#6 terminationGracePeriodSeconds:l@21#7
ExecAction: command:[s]#1
HTTPGet: path:s#1 port:x!#2 host:s#3 scheme:s#4 httpHeaders:[HTTPHeader]#5
HTTPHeader: name:s!#1 value:s!#2
TCPSocket: port:x!#1 host:s#2
GRPCAction: port:i!#1 service:s#2
Lifecycle: postStart:LifecycleHandler#1 preStop:LifecycleHandler#2 stopSignal:s@33#3
LifecycleHandler: exec:ExecAction#1 httpGet:HTTPGet#2 tcpSocket:TCPSocket#3 sleep:SleepAction@29#4
SleepAction: seconds:l!#1
SecurityContext: capabilities:Capabilities#1 privileged:b#2 seLinuxOptions:SELinuxOptions#3 windowsOptions:*#10 runAsUser:l#4 runAsGroup:l#8 runAsNonRoot:b#5 readOnlyRootFilesystem:b#6 allowPrivilegeEscalation:b#7 procMount:s#9 seccompProfile:SeccompProfile#11 appArmorProfile:SeccompProfile@30#12
Capabilities: add:[s]#1 drop:[s]#2
Volume: name:s!#1 hostPath:HostPath#2.1 emptyDir:EmptyDir#2.2 secret:SecretVolume#2.6 configMap:ConfigMapVolume#2.19 projected:ProjectedVolume#2.26 downwardAPI:DownwardAPIVolume#2.16 persistentVolumeClaim:PersistentVolumeClaimVolume#2.10 csi:CSIVolume#2.28 nfs:NFSVolume#2.7 image:*@31#2.30 ephemeral:*#2.29 iscsi:*#2.8 fc:*#2.17 rbd:*#2.11 cephfs:*#2.14 cinder:*#2.13 flexVolume:*#2.12 flocker:*#2.15 gcePersistentDisk:*#2.3 awsElasticBlockStore:*#2.4 gitRepo:*#2.5 glusterfs:*#2.9 azureDisk:*#2.22 azureFile:*#2.18 vsphereVolume:*#2.20 quobyte:*#2.21 portworxVolume:*#2.24 scaleIO:*#2.25 storageos:*#2.27 photonPersistentDisk:*#2.23
HostPath: path:s!#1 type:s#2
EmptyDir: medium:s#1 sizeLimit:q#2
SecretVolume: secretName:s#1 items:[KeyToPath]#2 defaultMode:i#3 optional:b#4
ConfigMapVolume: name:s#1.1 items:[KeyToPath]#2 defaultMode:i#3 optional:b#4
KeyToPath: key:s!#1 path:s!#2 mode:i#3
ProjectedVolume: sources:[ProjectedSource]#1 defaultMode:i#2
ProjectedSource: secret:ProjectedItems#1 configMap:ProjectedItems#3 downwardAPI:DownwardAPIVolume#2 serviceAccountToken:TokenProjection#4 clusterTrustBundle:*@27#5 podCertificate:*@34#6
ProjectedItems: name:s#1.1 items:[KeyToPath]#2 optional:b#4
TokenProjection: audience:s#1 expirationSeconds:l#2 path:s!#3
DownwardAPIVolume: items:[DownwardAPIItem]#1 defaultMode:i#2
DownwardAPIItem: path:s!#1 fieldRef:FieldRef#2 resourceFieldRef:ResourceFieldRef#3 mode:i#4
PersistentVolumeClaimVolume: claimName:s!#1 readOnly:b#2
CSIVolume: driver:s!#1 readOnly:b#2 fsType:s#3 volumeAttributes:{s}#4 nodePublishSecretRef:LocalObjectReference#5
NFSVolume: server:s!#1 path:s!#2 readOnly:b#3
PodStatus: observedGeneration:l@33#17 phase:s#1 conditions:[PlainCondition|type]#2 message:s#3 reason:s#4 nominatedNodeName:s#11 hostIP:s#5 hostIPs:[PodIP]@28#16 podIP:s#6 podIPs:[PodIP|ip]#12 startTime:t#7 initContainerStatuses:[ContainerStatus]#10 containerStatuses:[ContainerStatus]#8 qosClass:s#9 ephemeralContainerStatuses:[ContainerStatus]#13 resize:s@27#14 resourceClaimStatuses:*@26#15 extendedResourceClaimStatus:*@34#18 allocatedResources:{q}@35#19 resources:Resources@35#20
PodIP: ip:s#1
ContainerStatus: name:s!#1 state:ContainerState#2 lastState:ContainerState#3 ready:b!#4 restartCount:i!#5 image:s!#6 imageID:s!#7 containerID:s#8 started:b#9 allocatedResources:{q}@27#10 resources:*@27#11 volumeMounts:*@30#12 user:*@31#13 allocatedResourcesStatus:*@31#14 stopSignal:s@33#15
ContainerState: waiting:StateWaiting#1 running:StateRunning#2 terminated:StateTerminated#3
StateWaiting: reason:s#1 message:s#2
StateRunning: startedAt:t#1
StateTerminated: exitCode:i!#1 signal:i#2 reason:s#3 message:s#4 startedAt:t#5 finishedAt:t#6 containerID:s#7
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

const Definitions& AllDefinitions() {
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

Json SchemaOfObject(std::string_view name, const Emulation& emulation);

std::vector<std::string> Split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    const auto end = text.find(separator);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

Json TypeSchema(std::string_view type, const Emulation& emulation) {
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
              {"additionalProperties", TypeSchema(type.substr(1, type.size() - 2), emulation)}};
    case '[': {
      const auto parts = Split(type.substr(1, type.size() - 2), '|');
      Json schema = {{"type", "array"}, {"items", TypeSchema(parts[0], emulation)}};
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
        const auto keys = Split(parts[1], ',');
        schema["x-kubernetes-list-type"] = "map";
        schema["x-kubernetes-list-map-keys"] = keys;
        schema["x-kubernetes-patch-merge-key"] = parts.size() > 2 ? parts[2] : keys[0];
        schema["x-kubernetes-patch-strategy"] = parts[0] == "Volume" ? "merge,retainKeys" : "merge";
      }
      return schema;
    }
    default:
      return SchemaOfObject(type, emulation);
  }
}

Json SchemaOfObject(std::string_view name, const Emulation& emulation) {
  Json schema = {{"type", "object"}, {"properties", Json::object()}};
  for (const BuiltinField& field : BuiltinFields(name)) {
    if (!emulation.AtLeast(field.since)) continue;
    if (field.required) schema["required"].push_back(field.name);
    schema["properties"][field.name] = TypeSchema(field.type, emulation);
  }
  // Small types that the API treats as one value.
  static const std::set<std::string, std::less<>> atomic = {
      "ObjectReference", "LocalObjectReference", "LabelSelector", "NodeSelector", "RoleRef",
      "FieldRef",        "ResourceFieldRef",     "KeyRef"};
  if (atomic.contains(name)) schema["x-kubernetes-map-type"] = "atomic";
  for (const auto& [owner, field] :
       {std::pair{"ServiceSpec", "selector"}, {"PodSpec", "nodeSelector"}}) {
    if (name == owner && schema["properties"].contains(field))
      schema["properties"][field]["x-kubernetes-map-type"] = "atomic";
  }
  return schema;
}

BuiltinField ParseField(const std::string& text) {
  BuiltinField field;
  const auto colon = text.find(':');
  field.name = text.substr(0, colon);
  std::string_view type = std::string_view(text).substr(colon + 1);
  const auto number = [](std::string_view digits) {
    int value = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return value;
  };
  if (const auto hash = type.rfind('#'); hash != std::string_view::npos) {
    for (const std::string& part : Split(type.substr(hash + 1), '.')) {
      field.protobuf.push_back(number(part));
    }
    type = type.substr(0, hash);
  }
  if (const auto since = type.rfind('@'); since != std::string_view::npos) {
    field.since = number(type.substr(since + 1));
    type = type.substr(0, since);
  }
  if (type.back() == '!') {
    field.required = true;
    type.remove_suffix(1);
  }
  field.type = type;
  return field;
}

}  // namespace

const std::vector<BuiltinField>& BuiltinFields(std::string_view name) {
  static const auto parsed = [] {
    std::map<std::string, std::vector<BuiltinField>, std::less<>> all;
    for (const auto& [definition, text] : AllDefinitions()) {
      for (const std::string& field : Split(text, ' '))
        all[definition].push_back(ParseField(field));
    }
    return all;
  }();
  const auto found = parsed.find(name);
  if (found == parsed.end()) {
    throw std::logic_error("no builtin schema is called " + std::string(name));
  }
  return found->second;
}

bool HasBuiltin(std::string_view name) {
  return AllDefinitions().contains(name);
}

Json BuiltinSchema(const std::string& kind, const Emulation& emulation) {
  Json schema = SchemaOfObject(kind, emulation);
  schema["properties"]["apiVersion"] = {{"type", "string"}};
  schema["properties"]["kind"] = {{"type", "string"}};
  schema["properties"]["metadata"] = {{"type", "object"}};
  return schema;
}

}  // namespace pointsman::e2e
