// SPDX-License-Identifier: Apache-2.0
#include "vmm/test/plan.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "tests/catch.hpp"
#include "tests/support/files.hpp"

namespace inox::plan_test {
namespace {

namespace fs = std::filesystem;

struct Folder {
    fs::path path = fs::temp_directory_path() / ("inox-plan-" + std::to_string(::getpid()));
    Folder() { fs::create_directories(path); }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    ~Folder() { fs::remove_all(path); }
    std::string file(const std::string& name, std::size_t size = 10) const {
        fs::create_directories((path / name).parent_path());
        std::ofstream{path / name} << std::string(size, 'x');
        return (path / name).string();
    }
};

std::string joined(const std::vector<std::string>& words) {
    std::string out;
    for (const auto& word : words)
        out += (out.empty() ? "" : " ") + test::shell_word(word);
    return out;
}

} // namespace

TEST_CASE("a kernel is a file, a build directory, or a name") {
    const Folder folder;
    const auto image = folder.file("linux/arch/x86/boot/bzImage");
    const auto map = folder.file("linux/System.map", 10'000);
    const auto build = test::find_kernel((folder.path / "linux").string());
    REQUIRE(build);
    CHECK(build->image == image);
    CHECK(build->symbols == map);
    CHECK(build->label == "linux");
    CHECK(test::find_kernel((folder.path / "linux/").string())->label == "linux");
    CHECK(test::find_kernel(image)->label == "linux");

    const auto debian = folder.file("boot/vmlinuz-6.1.0-9-amd64");
    folder.file("boot/System.map-6.1.0-9-amd64", 80); // Debian's only says where the real one is
    const auto file = test::find_kernel(debian);
    REQUIRE(file);
    CHECK(file->label == "6.1.0-9-amd64");
    CHECK(file->symbols.empty());

    folder.file("empty/README");
    CHECK(test::find_kernel((folder.path / "empty").string()).error().code == Errc::kernel_missing);
    CHECK(test::find_kernel("99.99").error().code == Errc::kernel_missing);
    CHECK(test::find_kernel("../nope").error().code == Errc::kernel_missing);
    CHECK(test::find_kernel("").error().code == Errc::kernel_missing);
}

TEST_CASE("fetched kernels are found by the start of their name, but no flavour that was not asked for") {
    const Folder folder;
    ::setenv("INOX_CACHE", folder.path.c_str(), 1);
    folder.file("kernels/98.1-cloud-11111111/vmlinuz");
    folder.file("kernels/98.12-22222222/vmlinuz");
    folder.file("kernels/98.1-33333333/vmlinuz");
    folder.file("kernels/98.3-44444444/README");
    CHECK(test::find_kernel("98.1")->image == (folder.path / "kernels/98.1-33333333/vmlinuz"));
    CHECK(test::find_kernel("debian-98.12")->label == "98.12");
    CHECK(test::find_kernel("98.1-cloud")->label == "98.1-cloud");
    CHECK_FALSE(test::find_kernel("98.3"));
    CHECK_FALSE(test::find_kernel("98"));
    ::unsetenv("INOX_CACHE");
}

TEST_CASE("each combination is a machine, and every kernel that is not there is told") {
    const Folder folder;
    test::Plan plan;
    plan.kernels = {folder.file("a/bzImage"), folder.file("b/bzImage")};
    plan.cpus = {"1", "4"};
    plan.memory = {"512M", "2G"};
    std::vector<Error> problems;
    const auto all = test::machines(plan, problems);
    CHECK(problems.empty());
    REQUIRE(all.size() == 8);
    CHECK(all[0].text() == "a, 1 CPU, 512M");
    CHECK(all[7].text() == "b, 4 CPUs, 2G");
    CHECK(all[7].file_name() == "7-b-4-2G");
    plan.memory.assign(test::most_machines / 2, "64M");
    CHECK(test::machines(plan, problems).empty());
    REQUIRE(problems.size() == 1);
    CHECK(problems[0].code == Errc::no_resource);
    problems.clear();
    plan.memory = {"512M", "2G"};
    plan.kernels = {"/nope/1", folder.file("a/bzImage"), "/nope/2"};
    CHECK(test::machines(plan, problems).size() == 4);
    CHECK(problems.size() == 2);
}

TEST_CASE("the arguments of a run, and a line that repeats it") {
    const Folder folder;
    test::Plan plan;
    plan.kernels = {folder.file("it's/bzImage")};
    plan.cpus = {"2"};
    plan.command = {"sh", "-c", "echo $HOME; exit 3"};
    plan.options = {{"--net", "user"}, {"--smt", std::nullopt}};
    plan.append = "debug";
    std::vector<Error> problems;
    const auto machine = test::machines(plan, problems).at(0);
    const auto arguments = joined(test::run_arguments(plan, machine, {"/out"}));
    INFO(arguments);
    CHECK(arguments.starts_with("run --kernel '" + (folder.path / "it'\\''s/bzImage").string() + "' --cpus 2 "));
    CHECK(arguments.find(" --fail-on kernel --net user --smt --serial-log /out/console.log ") != arguments.npos);
    CHECK(arguments.ends_with(" --root / -- sh -c 'echo $HOME; exit 3'"));
    CHECK(arguments.find("loglevel=5") != arguments.npos);
    CHECK(arguments.find("unknown_nmi_panic") != arguments.npos);
    const auto repeat = test::repeat_line(plan, machine);
    CHECK(repeat.ends_with("--cpus 2 --append debug --net user --smt -- sh -c 'echo $HOME; exit 3'"));

    plan.options = {{"--root", "/srv/root"}, {"--cmdline", "console=ttyS0"}};
    plan.cmdline = "console=ttyS0";
    const auto own = joined(test::run_arguments(plan, machine, {"/out"}));
    CHECK(own.find("--cmdline 'console=ttyS0 debug' ") != own.npos); // what is appended, too, and only once
    CHECK(own.find("--cmdline", own.find("--cmdline") + 1) == own.npos);
    CHECK(own.find("--root /srv/root") != own.npos);
    CHECK(own.find("--root / ") == own.npos);
    CHECK(own.find("loglevel") == own.npos);

    // What a configuration file has, each machine reads there
    plan.options = {{"--config", "conf/test.json"}};
    plan.in_file = {"--root", "--console", "--symbols"};
    const auto of_file = joined(test::run_arguments(plan, machine, {"/out"}));
    CHECK(of_file.find("--config conf/test.json") != of_file.npos);
    for (const char* option : {"--root", "--console", "--symbols"})
        CHECK(of_file.find(option) == of_file.npos);

    plan.command.clear();
    plan.cmdline.reset();
    plan.kunit = true;
    CHECK(joined(test::run_arguments(plan, machine, {"/out"})).find(" -- ") == std::string::npos);
    CHECK(test::kernel_cmdline(plan).find("loglevel=7 kunit_shutdown=poweroff") != std::string::npos);
}

} // namespace inox::plan_test
