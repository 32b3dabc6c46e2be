// The kubelets of a test cluster: registers its nodes, keeps their Leases, runs the Pods bound to
// them as processes and reports their status. One object serves all nodes; each node has a thread
// of its own.
//
// A container is a process of the node: no image is pulled. Its program is, in this order,
// command[0] (a name or path whose last part is a program of the build is that program), or the
// image's entry in kImages. Supported: command, args with
// $(VAR), env (value, fieldRef, configMapKeyRef), the service account's volume, readinessProbe
// (tcpSocket, httpGet), restartPolicy Always, hostNetwork, terminationGracePeriodSeconds. What else
// a Pod asks for and cannot be had (initContainers, exec probes, other images) makes it Pending
// with the reason in its status. hostPath volumes need no mount, as a container sees its node's
// files; a prefix such as "/host" of their mountPath is taken off the arguments instead.
#pragma once

#include <memory>
#include <thread>

#include "e2e/testbed/cluster.h"
#include "kube/client/client.h"

namespace pointsman::e2e {

class Kubelet {
 public:
  // `cluster` outlives this and its control plane has been started once. Talks to it by the
  // machine's kubeconfig.
  explicit Kubelet(Cluster& cluster);
  ~Kubelet();  // stops the threads; what runs on the nodes goes on
  Kubelet(const Kubelet&) = delete;
  Kubelet& operator=(const Kubelet&) = delete;

  // A node's kubelet is gone (pods go on, nothing is reported, its Lease runs out), and back.
  void Pause(std::string_view node);
  void Resume(std::string_view node);

 private:
  class NodeWorker;

  void WatchPods(const std::stop_token& stop);

  std::vector<std::unique_ptr<NodeWorker>> workers_;
  std::shared_ptr<kube::Transport> transport_;
  kube::Client client_;
  std::jthread watcher_;
};

}  // namespace pointsman::e2e
