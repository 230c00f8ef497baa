# Homebrew's formula: brew install --HEAD ./tools/packaging/zosia.rb, in a checkout.
class Zosia < Formula
  desc "Boot a language model as a chat prompt"
  license "Apache-2.0"
  head File.expand_path("../..", __dir__), using: :git, branch: "main"

  depends_on "qemu"

  def install
    system "tools/install.sh", "--package", "brew", "--prefix", prefix
  end

  def caveats
    <<~EOS
      The EFI file is built in a container when it is first needed:
        brew install podman && podman machine init --now
    EOS
  end

  test do
    assert_match "smollm2-135m", shell_output("#{bin}/zosia models")
  end
end
