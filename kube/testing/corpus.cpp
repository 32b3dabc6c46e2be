// The inputs to begin with: objects that use every field which is read.
#include "kube/testing/report_checks.h"

namespace pointsman::testing {

std::vector<std::string> ServiceCorpus() {
  return {
      R"({"kind":"Service","apiVersion":"v1","metadata":{"name":"web","namespace":"shop","uid":"u-1",
        "resourceVersion":"41","labels":{"service.kubernetes.io/service-proxy-name":"other"},
        "annotations":{"pointsman.io/ipvs-scheduler":"mh","pointsman.io/ipvs-scheduler-flags":"mh-port",
          "service.kubernetes.io/topology-mode":"Auto"}},
        "spec":{"type":"LoadBalancer","clusterIP":"10.96.0.10","clusterIPs":["10.96.0.10","fd00:10::a"],
          "ports":[{"name":"http","protocol":"TCP","port":80,"nodePort":30080,"targetPort":"http"},
                   {"name":"dns","protocol":"UDP","port":53,"nodePort":30053}],
          "externalIPs":["192.0.2.10","2001:db8::10"],"loadBalancerSourceRanges":["10.0.0.0/8"," fd00::/8 "],
          "sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":600}},
          "externalTrafficPolicy":"Local","internalTrafficPolicy":"Cluster","healthCheckNodePort":32000},
        "status":{"loadBalancer":{"ingress":[{"ip":"198.51.100.1","ipMode":"VIP"},{"hostname":"lb.example.org"}]}}})",
      R"({"metadata":{"name":"db","namespace":"shop","annotations":{"service.kubernetes.io/topology-aware-hints":"auto"}},
        "spec":{"clusterIP":"None","ports":[{"port":5432}],"type":"ClusterIP","sessionAffinity":"None"}})",
      R"({"metadata":{"name":"old","namespace":"x"},"spec":{"clusterIP":"010.096.000.010","ports":[{"port":1}],
        "externalIPs":["::ffff:10.0.0.9","010.1.1.1"],"loadBalancerSourceRanges":["\u300010.0.0.0/8"]}})",
  };
}

std::vector<std::string> EndpointSliceCorpus() {
  return {
      R"({"addressType":"IPv4","apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice",
        "endpoints":[{"addresses":["10.1.0.1"],"conditions":{"ready":true,"serving":true,"terminating":false},
          "nodeName":"n1","zone":"z1","hints":{"forZones":[{"name":"z1"}],"forNodes":[{"name":"n1"}]}},
          {"addresses":["010.001.000.002","10.1.0.99"],"conditions":{"ready":false},"nodeName":"n2"}],
        "metadata":{"name":"web-abc","namespace":"shop","resourceVersion":"9",
          "annotations":{"endpoints.kubernetes.io/last-change-trigger-time":"2026-01-02T03:04:05Z"},
          "labels":{"kubernetes.io/service-name":"web","service.kubernetes.io/headless":""}},
        "ports":[{"name":"http","port":8080,"protocol":"TCP"},{"name":"","port":null,"protocol":"UDP"}]})",
      R"({"addressType":"IPv6","apiVersion":"discovery.k8s.io/v1beta1","metadata":{"name":"a","namespace":"b"},
        "endpoints":[{"addresses":["fd00::1"],"topology":{"kubernetes.io/hostname":"n1","topology.kubernetes.io/zone":"z"}}],
        "ports":[{"port":53,"protocol":"SCTP"}]})",
      R"({"addressType":"FQDN","metadata":{"name":"f","namespace":"b"},"endpoints":[{"addresses":["example.org"]}]})",
  };
}

std::vector<std::string> NodeCorpus() {
  return {
      R"({"kind":"Node","metadata":{"name":"n1","uid":"u","resourceVersion":"3","deletionTimestamp":null,
          "labels":{"topology.kubernetes.io/zone":"z1","kubernetes.io/os":"linux"}},
        "spec":{"podCIDR":"10.244.1.0/24","podCIDRs":["10.244.1.0/24","fd00:1::/64"],
          "taints":[{"effect":"NoSchedule","key":"ToBeDeletedByClusterAutoscaler","value":"1"}]},
        "status":{"conditions":[{"status":"True","type":"Ready"}],
          "addresses":[{"address":"10.0.0.5","type":"InternalIP"},{"address":"fd00::5","type":"InternalIP"},
            {"type":"Hostname","address":"n1"},{"type":"ExternalIP","address":"192.0.2.5"}]}})",
      R"({"metadata":{"name":"n2"},"spec":{"podCIDR":"010.1.0.0/016"}})",
  };
}

std::vector<std::string> NodeProxyCorpus() {
  return {
      R"({"kind":"NodeProxy","apiVersion":"pointsman.io/v1alpha1","metadata":{"name":"n1","uid":"u","resourceVersion":"7",
          "generation":3,"annotations":{"pointsman.io/updated-at":"2026-01-02T03:04:05Z"},
          "ownerReferences":[{"kind":"Node","name":"n1","uid":"nu"}]},
        "spec":{"configuration":"default","revision":2,"state":"Active","mode":"ipvs","fallbackModes":["iptables"],
          "ipvs":{"scheduler":"rr","excludeCIDRs":["10.9.0.0/16"]},"modules":{"policy":"Load","extra":["ip_vs_mh"]},
          "candidate":{"revision":3,"mode":"nftables","fallbackModes":[],"ipvs":{"scheduler":"lc"},"modules":{}}},
        "status":{"observedGeneration":3,"observedRevision":2,"activeMode":"ipvs",
          "kernel":{"release":"6.1.0","modules":[{"name":"ip_vs","state":"Loaded"},{"name":"ip_vs_rr","state":"LoadedNow"}],
            "sysctls":[{"name":"net.ipv4.vs.conntrack","value":"1"},{"name":"net.ipv4.tcp_rmem","value":"4096\t131072"}]},
          "services":10,"endpoints":20,"lastSync":"2026-01-02T03:04:05Z","drainingMode":"iptables","drainingConnections":4,
          "agentVersion":"0.1.0","candidate":{"revision":3,"mode":"nftables","passed":true,"message":"ok"},
          "conditions":[{"type":"Ready","status":"True","reason":"Serving","message":"m",
            "lastTransitionTime":"2026-01-02T03:04:05Z","observedGeneration":3},
            {"type":"Degraded","status":"False","reason":"AsAsked","message":"m","lastTransitionTime":"2026-01-02T03:04:05Z"}]}})",
      R"({"metadata":{"name":"n2"},"spec":{"configuration":"c","revision":0,"mode":"userspace"}})",
  };
}

std::vector<std::string> ProxyConfigurationCorpus() {
  return {
      R"({"kind":"ProxyConfiguration","apiVersion":"pointsman.io/v1alpha1","metadata":{"name":"default","uid":"u",
          "resourceVersion":"9","generation":4,"creationTimestamp":"2026-01-02T03:04:05Z",
          "finalizers":["pointsman.io/proxyconfiguration"]},
        "spec":{"mode":"ipvs","fallbackModes":["iptables"],"provider":"NodeAgent","priority":5,
          "nodeSelector":{"matchLabels":{"pool":"a"},"matchExpressions":[{"key":"zone","operator":"In","values":["z1"]}]},
          "clusterCIDR":"10.244.0.0/16","nodePortAddresses":["10.0.0.0/8","fd00::/8"],
          "ipvs":{"scheduler":"wlc","excludeCIDRs":["10.9.0.0/16"],"strictARP":true,"tcpTimeout":"15m"},
          "iptables":{"syncPeriod":"30s","minSyncPeriod":"1s"},"modules":{"policy":"RequireLoaded","extra":["ip_vs_mh"]},
          "rollout":{"maxUnavailable":"10%","canary":{"nodes":1,"soak":"60s"},"minReady":"10s","onFailure":"Pause",
            "progressDeadline":"10m","revisionHistoryLimit":5}},
        "status":{"observedGeneration":4,"phase":"RollingOut","currentRevision":1,"updateRevision":2,
          "nodes":{"desired":3,"updated":1,"ready":3,"fallback":0,"degraded":0},"modes":{"iptables":2,"ipvs":1},
          "conditions":[{"type":"Accepted","status":"True","reason":"Valid","message":"m",
            "lastTransitionTime":"2026-01-02T03:04:05Z","observedGeneration":4}]}})",
      R"({"metadata":{"name":"c"},"spec":{"mode":"iptables"}})",
  };
}

}  // namespace pointsman::testing
