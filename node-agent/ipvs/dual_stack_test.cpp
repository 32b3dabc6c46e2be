#include "node-agent/ipvs/testing/dataplane_fixture.h"
