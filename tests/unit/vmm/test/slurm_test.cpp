// SPDX-License-Identifier: Apache-2.0
#include "vmm/test/slurm.hpp"

#include "tests/catch.hpp"

namespace inox::slurm_test {

using test::parse_states;
using test::TaskState;

TEST_CASE("what scontrol says of tasks that run, have ended, and wait") {
    const auto states =
        parse_states("JobId=2 ArrayJobId=1 ArrayTaskId=0 JobName=x JobState=FAILED Reason=NonZeroExitCode "
                     "ExitCode=125:0 NodeList=n1\n"
                     "JobId=3 ArrayJobId=1 ArrayTaskId=1 JobName=x JobState=FAILED Reason=x ExitCode=0:9 NodeList=n2\n"
                     "JobId=1 ArrayJobId=1 ArrayTaskId=2,4-5%2 ArrayTaskThrottle=2 JobState=PENDING ExitCode=0:0\n");
    REQUIRE(states.size() == 5);
    CHECK(states[0].text() == "Slurm's task ended as FAILED, with 125, and left no result");
    CHECK(states[1].text() == "Slurm's task ended as FAILED, by signal 9, and left no result");
    CHECK(states[1].is_over());
    CHECK(states[2].index == 2);
    CHECK(states[4].index == 5);
    CHECK_FALSE(states[4].is_over());
}

TEST_CASE("what is no list of tasks is none") {
    CHECK(parse_states("").empty());
    CHECK(parse_states("slurm_load_jobs error: Invalid job id specified\n").empty());
    CHECK(parse_states("ArrayTaskId=x-9,0-99999999999,-,5- JobState=RUNNING").empty());
    CHECK(parse_states("XArrayTaskId=1 JobState=RUNNING").empty());
}

} // namespace inox::slurm_test
