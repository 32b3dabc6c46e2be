// The kubelets of a test cluster: registers its nodes, keeps their Leases, runs the Pods bound to
// them as processes and reports their status. One object serves all nodes; each node has a thread
// of its own.
//
// A container is a process of the node in namespaces of its own (pointsman-container): no image is
// pulled. Its program is, in this order, command[0] (a name or path whose last part is a program of
// the build is that program), or the image's entry in kImages. Applied as a real kubelet and
// containerd do: securityContext (user, groups, capabilities, no_new_privs, read-only root, the
// default seccomp profile), hostNetwork, hostPID, hostIPC, hostPath, emptyDir and configMap volumes
// (these written when a container starts, not while it runs), a container's read-only and masked
// parts of /proc and /sys, the service account's token, which is renewed. Also: args with $(VAR),
// env (value, fieldRef, configMapKeyRef), KUBERNETES_SERVICE_HOST
// and _PORT of the Service default/kubernetes, liveness and readiness probes (tcpSocket, httpGet),
// restartPolicy Always, terminationGracePeriodSeconds. What else a Pod asks for and cannot be had
// (privileged, initContainers, exec probes, other volumes, other images) makes it Pending with the
// reason in its status. Ignored: resources, AppArmor and SELinux options.
#pragma once

#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "e2e/testbed/cluster.h"
#include "kube/client/client.h"

namespace pointsman::e2e {

struct KubeletOptions {
  // A node is not Ready (NetworkPluginNotReady) before something on it serves the Service
  // default/kubernetes, as where the network's own Pods get to the API server by that.
  bool ready_when_served = false;
  std::vector<std::string> later;  // nodes that join at Resume only
};

class NodeWorker;

class Kubelet {
 public:
  // `cluster` outlives this and its control plane has been started once. Talks to it by the
  // machine's kubeconfig.
  explicit Kubelet(Cluster& cluster, const KubeletOptions& options = {});
  ~Kubelet();  // stops the threads; what runs on the nodes goes on
  Kubelet(const Kubelet&) = delete;
  Kubelet& operator=(const Kubelet&) = delete;

  // A node's kubelet is gone (pods go on, nothing is reported, its Lease runs out), and back.
  void Pause(std::string_view node);
  void Resume(std::string_view node);
  // All running Pods get new tokens now, long before the old ones are worn out.
  void RenewTokens();

 private:
  void WatchPods(const std::stop_token& stop);

  std::vector<std::unique_ptr<NodeWorker>> workers_;
  std::shared_ptr<kube::Transport> transport_;
  kube::Client client_;
  std::jthread watcher_;
};

}  // namespace pointsman::e2e
