#include "kube/client/resource.h"

#include <gtest/gtest.h>

namespace pointsman::kube {
namespace {

TEST(ResourceTest, NamesApiVersion) {
  EXPECT_EQ(resources::kServices.ApiVersion(), "v1");
  EXPECT_EQ(resources::kEndpointSlices.ApiVersion(), "discovery.k8s.io/v1");
}

TEST(ResourceTest, MakesPaths) {
  EXPECT_EQ(resources::kServices.Path(), "/api/v1/services");
  EXPECT_EQ(resources::kServices.Path("default", "web", "status"),
            "/api/v1/namespaces/default/services/web/status");
  EXPECT_EQ(resources::kNodeProxies.Path("", "node-1"),
            "/apis/pointsman.io/v1alpha1/nodeproxies/node-1");
  // A cluster-scoped resource has no namespace, whatever the caller says.
  EXPECT_EQ(resources::kNodes.Path("default", "n"), "/api/v1/nodes/n");
}

TEST(ResourceTest, EncodesWhatCouldLeaveThePath) {
  EXPECT_EQ(resources::kServices.Path("a/../b", "x?y#z %"),
            "/api/v1/namespaces/a%2F..%2Fb/services/x%3Fy%23z%20%25");
}

}  // namespace
}  // namespace pointsman::kube
