# The value of <nix/fetchurl.nix>: a derivation that a builder inside Nix downloads. Names and values of its
# attributes are part of the interface, since they decide about the derivation's path.
{ url
, hash ? ""
, md5 ? "", sha1 ? "", sha256 ? "", sha512 ? ""
, outputHash ?
    builtins.head (builtins.filter (h: h != "") [ hash sha512 sha1 md5 ] ++ [ sha256 ])
, outputHashAlgo ?
    if hash != "" then ""
    else if sha512 != "" then "sha512"
    else if sha1 != "" then "sha1"
    else if md5 != "" then "md5"
    else "sha256"
, executable ? false
, unpack ? false
, name ? baseNameOf (toString url)
, impure ? false
, system ? ""
}:

let
  contents = if impure then { __impure = true; } else { inherit outputHash outputHashAlgo; };
  proxies = map (protocol: protocol + "_proxy") [ "http" "https" "ftp" "all" "no" ];
in
derivation (contents // {
  inherit name url executable unpack;
  urls = [ url ];
  system = "builtin";
  builder = "builtin:fetchurl";
  outputHashMode = if executable || unpack then "recursive" else "flat";
  preferLocalBuild = true;
  impureEnvVars = proxies;
})
