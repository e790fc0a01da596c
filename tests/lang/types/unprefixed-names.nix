map builtins.typeOf [ abort baseNameOf break derivation derivationStrict dirOf fromTOML import isNull map placeholder removeAttrs scopedImport throw toString builtins ]
