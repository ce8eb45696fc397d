// SPDX-License-Identifier: Apache-2.0
#include "vmm/guest_root/guest_root.hpp"

#include <algorithm>

#include <cstdlib>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/boot/image.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/config/root_names.hpp"
#include "vmm/guest_root/cpio.hpp"
#include "vmm/guest_root/init_program.hpp"
#include "vmm/guest_root/kernel_release.hpp"
#include "vmm/guest_root/module_tree.hpp"
#include "vmm/guest_root/unpack.hpp"
#include "vmm/share/process.hpp"

namespace inox::guest_root {
namespace {

using devices::virtio::FsOptions;

constexpr auto root_key = "/root/path";
constexpr auto modules_key = "/root/modules";
constexpr auto kernel_key = "/boot-source/kernel_image_path";

/// The same; an error that has no place yet gets this one.
template <class T> Result<T> at(Result<T> result, const char* where) {
    if (!result && result.error().where.empty())
        result.error().where = where;
    return result;
}

std::string real_path(const std::string& path) {
    char* real = ::realpath(path.c_str(), nullptr);
    std::string out{real == nullptr ? "" : real};
    std::free(real); // NOLINT: realpath's
    return out;
}

// Where modules are

std::string folder_of(const std::string& path) {
    const auto slash = path.rfind('/');
    return slash == path.npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

/// With --modules: the folder is a root, or has one folder for each kernel, or is the kernel's own.
std::vector<std::string> asked_for(const std::string& folder, const std::string& release) {
    if (release.empty())
        return {folder};
    return {folder + "/lib/modules/" + release, folder + "/" + release, folder};
}

/// Beside the kernel, in its build tree, on this host.
std::vector<std::string> usual_places(const std::string& kernel, const std::string& release) {
    const auto real = real_path(kernel);
    const auto folder = folder_of(real);
    std::vector<std::string> all;
    if (!release.empty())
        for (const auto& top : {folder, folder + "/.."})
            all.push_back(top + "/lib/modules/" + release);
    all.push_back(folder + "/modules");
    all.push_back(real.ends_with("/arch/x86/boot/bzImage") ? folder + "/../../.." : folder);
    if (!release.empty())
        all.push_back("/lib/modules/" + release);
    return all;
}

/// Empty: none is found, and none was asked for. The kernel may have built in what is needed.
Result<std::string> find_modules(const Config& config, const std::string& release) {
    const auto& asked = config.root->modules;
    for (const auto& place : asked.empty() ? usual_places(config.boot.kernel, release) : asked_for(asked, release))
        if (ModuleTree::is_one(place))
            return place;
    if (asked.empty())
        return std::string{};
    return fail_at(modules_key, Errc::modules_missing,
                   in_quotes(asked) + " has no modules" + (release.empty() ? "" : " for the kernel " + release),
                   "name the folder above lib/modules, or the one with modules.dep");
}

/// Where in a root that is a folder this path of the host is; empty: it is not in there.
std::string place_in(const std::string& root, const std::string& path) {
    const auto top = real_path(root);
    const auto real = real_path(path);
    if (top == "/")
        return real;
    if (top.empty() || !real.starts_with(top) || (real.size() > top.size() && real[top.size()] != '/'))
        return {};
    return real.size() == top.size() ? "/" : real.substr(top.size());
}

/// With what a program of the guest needs to find modules.
bool is_installed(const std::string& folder) {
    return !folder.empty() && ::access((folder + "/modules.dep").c_str(), R_OK) == 0;
}

// The devices

DriveConfig root_disk(const RootConfig& root) {
    DriveConfig drive;
    drive.block.id = RootConfig::name;
    drive.block.serial = RootConfig::name;
    drive.block.path = root.path;
    drive.block.read_only = !root.writable;
    return drive;
}

FsOptions shared(std::string_view tag, const std::string& path, bool read_only) {
    FsOptions share;
    share.tag = tag;
    share.path = path;
    share.read_only = read_only;
    return share;
}

/// The guest's programs find the kernel's other modules where they expect them: in the root, or shared. What is wrong
/// with kernel or modules is told when they are read.
void add_modules(Config& config, const RootKind& kind) {
    if (!share::available())
        return;
    const auto release = kernel_release(config.boot.kernel, {});
    const auto folder = release ? find_modules(config, *release) : Result<std::string>{};
    if (!release || release->empty() || !folder || !is_installed(*folder))
        return;
    if (kind.type != RootKind::Type::folder || place_in(config.root->path, *folder).empty())
        put_device(config, shared(modules_share, *folder, true));
}

// What init loads

/// In the order in which init loads them: pvpanic first, which reports a panic while the others are loaded.
std::vector<ModuleTree::Wanted> wanted_modules(const Config& config, const RootKind& kind) {
    std::vector<ModuleTree::Wanted> all{{"pvpanic-mmio"}, {"pvpanic-pci"}};
    const bool pci = config.machine.transport == Transport::pci;
    const bool on_device = kind.type != RootKind::Type::archive;
    all.push_back({pci ? "virtio_pci" : "virtio_mmio", on_device});
    if (device_of<IommuConfig>(config) != nullptr)
        all.push_back({"virtio_iommu"});
    if (kind.type == RootKind::Type::disk) {
        all.push_back({"virtio_blk", true});
        all.push_back({kind.file_system, true});
    }
    if (kind.type == RootKind::Type::folder)
        all.push_back({"virtiofs", true});
    if (on_device && !config.root->writable)
        all.push_back({"overlay", true});
    // What the operator gave the guest works, too; without, the kernel's own is enough
    const auto with = [&]<class Options>(const Options*, std::string_view name) {
        if (device_of<Options>(config) != nullptr)
            all.push_back({name});
    };
    namespace virtio = devices::virtio;
    with(static_cast<const DriveConfig*>(nullptr), "virtio_blk");
    with(static_cast<const virtio::FsOptions*>(nullptr), "virtiofs");
    with(static_cast<const virtio::NetOptions*>(nullptr), "virtio_net");
    with(static_cast<const virtio::VsockOptions*>(nullptr), "vmw_vsock_virtio_transport");
    with(static_cast<const virtio::EntropyOptions*>(nullptr), "virtio-rng");
    with(static_cast<const virtio::BalloonOptions*>(nullptr), "virtio_balloon");
    with(static_cast<const ConsoleConfig*>(nullptr), "virtio_console");
    return all;
}

// Orders: "key=value", each with a zero behind it, as init/orders.c reads them

class Orders {
public:
    void add(std::string_view key, std::string_view value) {
        text_.append(key).append("=").append(value).push_back('\0');
    }
    [[nodiscard]] const std::string& text() const { return text_; }

private:
    std::string text_;
};

void add_environment(const Config& config, Orders& orders) {
    static constexpr std::string_view usual[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                                 "HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/sh"};
    for (const auto variable : usual)
        orders.add("env", variable);
    if (const char* terminal = std::getenv("TERM")) // NOLINT: nobody sets it
        orders.add("env", std::string{"TERM="} + terminal);
    if (!config.command)
        return;
    for (const auto& variable : config.command->environment) {
        if (variable.contains('=')) {
            orders.add("env", variable);
        } else if (const char* value = std::getenv(variable.c_str())) { // NOLINT: nobody sets it
            orders.add("env", variable + "=" + value);
        }
    }
}

void add_command(const Config& config, const RootKind& kind, Orders& orders) {
    std::string directory = config.command ? config.command->directory : "";
    if (directory.empty())
        directory = kind.type == RootKind::Type::folder ? usual_directory(config.root->path) : "/";
    orders.add("directory", directory);
    if (device_of<ConsoleConfig>(config) != nullptr)
        orders.add("terminal-name", "hvc0");
    if (config.command)
        for (const auto& argument : config.command->arguments)
            orders.add("argument", argument);
    winsize size{};
    if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row != 0)
        orders.add("window", format("%u %u", size.ws_row, size.ws_col));
    add_environment(config, orders);
}

Orders orders_for(const Config& config, const RootKind& kind, const std::string& modules_folder,
                  std::span<const ModuleTree::Module> modules) {
    static constexpr const char* types[] = {"folder", "disk", "archive"};
    Orders orders;
    orders.add("root", types[static_cast<std::size_t>(kind.type)]);
    orders.add("name", RootConfig::name);
    orders.add("type", kind.file_system);
    orders.add("partition", std::to_string(kind.partition));
    orders.add("writable", config.root->writable ? "1" : "0");
    orders.add("modules", modules_folder);
    for (const auto& module : modules)
        orders.add("module", "/modules/" + module.name + ".ko");
    add_command(config, kind, orders);
    return orders;
}

// The RAM disk

constexpr CpioWriter::Node plain_folder{.mode = S_IFDIR | 0755U};

Result<void> add_own_files(CpioWriter& out, const Orders& orders, std::span<const ModuleTree::Module> modules) {
    TRY_VOID(out.add("init", {.mode = S_IFREG | 0755U}, init_program()));
    TRY_VOID(out.add("orders", {.mode = S_IFREG | 0600U}, std::string_view{orders.text()}));
    for (const char* path : {"dev", "proc", "sys", "lower", "writes", "root"})
        TRY_VOID(out.add(path, plain_folder));
    TRY_VOID(out.add("dev/console", {.mode = S_IFCHR | 0600U, .major = 5, .minor = 1}));
    for (const auto& module : modules)
        TRY_VOID(out.add("modules/" + module.name + ".ko", {.mode = S_IFREG | 0600U}, module.bytes));
    return {};
}

/// While Linux unpacks it, a RAM disk's files are in memory twice; the kernel and what it needs take the rest.
std::uint64_t most_bytes(const Config& config) {
    constexpr std::uint64_t for_kernel = 48 * MiB;
    return (config.machine.memory - std::min(config.machine.memory, for_kernel)) / 2;
}

} // namespace

std::string usual_directory(const std::string& root) {
    const auto place = place_in(root, ".");
    return place.empty() ? "/" : place;
}

Result<void> add_device(Config& config) {
    if (!config.root)
        return {};
    const auto& root = *config.root;
    const auto kind = TRY(at(look_at_root(root.path), root_key));
    if (kind.type == RootKind::Type::archive && root.writable)
        return fail_at("/root/writable", Errc::config_value, "an archive cannot be written to",
                       "leave out --root-rw: the guest's memory takes what it writes");
    if (kind.type == RootKind::Type::folder)
        put_device(config, shared(RootConfig::name, root.path, !root.writable));
    if (kind.type == RootKind::Type::disk)
        put_device(config, root_disk(root));
    add_modules(config, kind);
    return {};
}

Result<std::vector<std::byte>> make_initrd(const Config& config, const std::stop_token& stop) {
    const auto kind = TRY(at(look_at_root(config.root->path), root_key));
    const auto release = TRY(at(kernel_release(config.boot.kernel, stop), kernel_key));
    const auto folder = TRY(find_modules(config, release));
    std::vector<ModuleTree::Module> modules;
    if (!folder.empty()) {
        const auto tree = TRY(at(ModuleTree::open(folder), modules_key));
        modules = TRY(at(tree.load(wanted_modules(config, kind), release), modules_key));
    }
    auto orders = orders_for(config, kind, folder, modules);
    if (!release.empty() && is_installed(folder)) {
        orders.add("release", release);
        orders.add("modules-here", kind.type == RootKind::Type::folder ? place_in(config.root->path, folder) : "");
    }
    CpioWriter out{most_bytes(config)};
    TRY_VOID(at(add_own_files(out, orders, modules), "/machine-config/mem_size_mib"));
    if (kind.type == RootKind::Type::archive)
        TRY_VOID(at(add_tar(config.root->path, "root", out, stop), root_key));
    return out.finish();
}

} // namespace inox::guest_root
